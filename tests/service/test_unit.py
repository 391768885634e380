"""The text of the systemd unit: the same everywhere, and checked by systemd where its programs are."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.abi.error import BadInput
from llmos.service.control import SystemdControl
from llmos.service.unit import FILTER, SANDBOX, ServiceUnit, check_unit_name, quote
from llmos.testing.errors import fails_with

MACHINES = ServiceUnit(Path("/opt/llmos/bin/python"), Path("/srv/llmos"), "llmos", "990")
GOLDEN = """
# Written by: llmos service install
[Unit]
Description=llmos, a daemon that trains and serves language models
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
User=llmos
Group=990
Environment=LLMOS_HOME=/srv/llmos
Environment=LLMOS_RESUME_AT_START=true
ExecStart=/opt/llmos/bin/python -m llmos.daemon
WorkingDirectory=/
Restart=on-failure
RestartSec=2
WatchdogSec=60
TimeoutStopSec=90
KillMode=mixed
OOMPolicy=continue
LimitNOFILE=65536
LimitCORE=0

NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
DevicePolicy=closed
DeviceAllow=char-nvidia* rw
CacheDirectory=%N
Environment=XDG_CACHE_HOME=%C/%N
ReadWritePaths=/srv/llmos
CapabilityBoundingSet=
AmbientCapabilities=

[Install]
WantedBy=multi-user.target
"""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here: no unit can be checked by it"
)


def lines_of(unit):
    return unit.text.splitlines()


def test_the_machine_s_unit_is_this_text():
    assert f"\n{MACHINES.text}" == GOLDEN


def test_a_user_s_unit_asks_for_nothing_that_needs_root():
    lines = lines_of(ServiceUnit(Path("/home/ada/.venv/bin/python"), Path("/home/ada/.llmos")))
    assert set(FILTER.splitlines()) <= set(lines)
    assert not set(SANDBOX.splitlines()) & set(lines)
    assert lines[-1] == "WantedBy=default.target"
    assert not [line for line in lines if line.startswith(("User=", "Group=", "Capability", "ReadWritePaths="))]


def test_a_home_below_var_lib_is_a_folder_that_systemd_makes():
    lines = lines_of(ServiceUnit(Path("/usr/bin/python3"), Path("/var/lib/llmos"), "llmos"))
    assert "StateDirectory=llmos" in lines
    assert not [line for line in lines if line.startswith("ReadWritePaths")]


def test_a_port_below_1024_brings_the_one_capability_that_it_needs():
    lines = lines_of(ServiceUnit(Path("/usr/bin/python3"), Path("/srv/llmos"), "llmos", port=443))
    assert {line.partition("=")[2] for line in lines if "Capabilit" in line} == {"CAP_NET_BIND_SERVICE"}


def test_the_service_has_longer_to_stop_than_its_trainings():
    assert "TimeoutStopSec=630" in lines_of(ServiceUnit(Path("/p"), Path("/h"), stop_grace_s=600.0))


def test_what_the_environment_set_is_in_the_unit():
    lines = lines_of(ServiceUnit(Path("/p"), Path("/h"), environment={"LLMOS_PORT": "9001", "LLMOS_CATALOG": "/a b"}))
    assert {"Environment=LLMOS_PORT=9001", 'Environment="LLMOS_CATALOG=/a b"'} <= set(lines)


@pytest.mark.parametrize(
    ("word", "there"), [("/a/b-c.d", "/a/b-c.d"), ("/a b", '"/a b"'), ('/a"b\\', '"/a\\"b\\\\"'), ("/50%", "/50%%")]
)
def test_a_path_is_escaped_for_a_unit_file(word, there):
    assert quote(word) == there


def test_a_path_with_a_line_break_or_a_program_with_quotes_is_refused():
    with fails_with(BadInput):
        quote("/a\nUser=root")
    with fails_with(BadInput):
        _ = ServiceUnit(Path('/opt/"llmos"/bin/python'), Path("/h")).text


@pytest.mark.parametrize("name", ["", "../x", "a b", "llmos.service", "-x"])
def test_a_unit_s_name_is_plain(name):
    with fails_with(BadInput, key="name"):
        check_unit_name(name)


@pytest.fixture(params=["machine", "user", "odd"])
def unit_file(request, tmp_path):
    """A unit whose program is there, in a file that systemd would find it in."""
    python = Path(sys.executable)
    odd, beside = tmp_path / '50% of $HOME is "odd"', tmp_path / "50% of $HOME"
    for folder in (odd, beside):
        folder.mkdir()
    (beside / "python").symlink_to(python)
    found = {
        "machine": ServiceUnit(python, tmp_path, "games", "60", port=80),
        "user": ServiceUnit(python, tmp_path),
        "odd": ServiceUnit(beside / "python", odd, "games", "60", environment={"LLMOS_CATALOG": str(odd)}),
    }
    path = tmp_path / "llmos.service"
    path.write_text(found[request.param].text)
    return path


@needs_systemd
def test_systemd_finds_no_fault_in_the_unit(unit_file):
    said = SystemdControl(is_user=False).verify(unit_file)
    assert (said.code, [line for line in said.err.splitlines() if str(unit_file) in line]) == (0, [])


@needs_systemd
def test_systemd_finds_a_fault_that_is_planted(unit_file):
    unit_file.write_text(unit_file.read_text().replace("ExecStart=", "ExecStart=/nowhere"))
    assert SystemdControl(is_user=False).verify(unit_file).code != 0


@needs_systemd
def test_systemd_rates_the_machine_s_unit_as_little_exposed(tmp_path):
    path = tmp_path / "llmos.service"
    path.write_text(ServiceUnit(Path(sys.executable), tmp_path, "games", "60").text)
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze rates no files, only running services")
    assert done.returncode == 0, done.stdout
