"""The text of the systemd unit of one home's daemon. It installs nothing (service/installation.py does).

See systemd.exec(5) for what each line of the sandbox does. `MemoryDenyWriteExecute` is not among them: oneDNN compiles
its bfloat16 products at run time. `RemoveIPC` neither: it would remove what is another program's of the same user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmos.abi.error import BadInput

MARK = "# Written by: llmos service install"
STATES = Path("/var/lib")  # where systemd makes a service's folder itself (StateDirectory)
WATCHDOG_S = 60
STOP_MARGIN_S = 30  # beyond the processes' grace: to compact the journal and end connections
MOST_OPEN_FILES = 65_536
FIRST_FREE_PORT = 1024  # to listen below needs a capability
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

FILTER = """
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
""".strip()

# Needs mount namespaces and control groups of the machine's systemd, which a user's has not everywhere.
SANDBOX = """
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
""".strip()


@dataclass(frozen=True, slots=True)
class ServiceUnit:
    """One home's daemon as a service: of the machine, as `user`; or of one user, where `user` is empty."""

    python: Path
    home: Path
    user: str = ""
    group: str = ""
    port: int = 8600
    stop_grace_s: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The unit file; BadInput if a path cannot stand in one."""
        parts = [MARK, self._unit(), self._service(), FILTER]
        if self.user:
            parts += [SANDBOX, self._home(), self._capabilities()]
        target = "multi-user.target" if self.user else "default.target"
        return "\n".join([*parts, "", "[Install]", f"WantedBy={target}", ""])

    def _unit(self) -> str:
        return "\n".join(
            [
                "[Unit]",
                "Description=llmos, a daemon that trains and serves language models",
                *(["After=network-online.target", "Wants=network-online.target"] if self.user else []),
                "StartLimitIntervalSec=300",
                "StartLimitBurst=5",
                "",
            ]
        )

    def _service(self) -> str:
        variables = {"LLMOS_HOME": str(self.home), "LLMOS_RESUME_AT_START": "true", **self.environment}
        return "\n".join(
            [
                "[Service]",
                "Type=notify",
                "NotifyAccess=main",
                *([f"User={self.user}", f"Group={self.group or self.user}"] if self.user else []),
                *(f"Environment={quote(f'{key}={value}')}" for key, value in variables.items()),
                f"ExecStart={_program(str(self.python))} -m llmos.daemon",
                "WorkingDirectory=/",
                "Restart=on-failure",
                "RestartSec=2",
                f"WatchdogSec={WATCHDOG_S}",
                f"TimeoutStopSec={int(self.stop_grace_s) + STOP_MARGIN_S}",
                "KillMode=mixed",
                "OOMPolicy=continue",
                f"LimitNOFILE={MOST_OPEN_FILES}",
                "LimitCORE=0",
                "",
            ]
        )

    def _home(self) -> str:
        if self.home.parent == STATES:
            return f"StateDirectory={quote(self.home.name)}\nStateDirectoryMode=0700"
        return f"ReadWritePaths={quote(str(self.home))}"

    def _capabilities(self) -> str:
        if self.port >= FIRST_FREE_PORT:
            return "CapabilityBoundingSet=\nAmbientCapabilities="
        return "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE"


def quote(word: str) -> str:
    """One word of a unit file: specifiers escaped, and in quotes where it holds more than plain signs."""
    if not word.isprintable():
        raise BadInput(f"{word!r} cannot stand in a unit file. Choose a path of plain signs: LLMOS_HOME", value=word)
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w./:=@%,+~$-]+", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _program(path: str) -> str:
    """The path of what is started, in which systemd replaces no variable and takes no quotes."""
    if set("\"'\\") & set(path):
        raise BadInput(f"systemd starts no program with quotes in its path: {path}. Install it elsewhere", value=path)
    return quote(path)


def check_unit_name(name: str) -> str:
    """The name of a unit without `.service`; BadInput for one that systemd would not take."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"name is {name!r}; expected letters, digits, '-' and '_', such as llmos or llmos-2", key="name", value=name
        )
    return name
