"""Devices as the operating system tells of them."""

from __future__ import annotations

import psutil
import pytest

from llmos.kernel.children.devices import discover, memory_limit, probe_key


@pytest.fixture
def machine(tmp_path):
    """A /proc and a /sys of a machine with one processor type and a control group."""
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    group = sys / "fs/cgroup/box/inner"
    for folder in (proc / "self", group, sys / "devices/system/node/node0", sys / "devices/system/node/node1"):
        folder.mkdir(parents=True)
    (proc / "cpuinfo").write_text("model name\t: A Processor\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n")
    (proc / "self/cgroup").write_text("0::/box/inner\n")
    (group / "memory.max").write_text("max\n")
    return proc, sys


def test_the_processor_is_named_with_what_it_can_do(machine):
    (cpu,) = discover(*machine)
    assert (cpu.name, cpu.title, cpu.isa, cpu.numa_nodes) == (
        "cpu0",
        "A Processor",
        ("avx2", "avx512_bf16", "amx_bf16"),
        2,
    )
    assert cpu.cores >= 1


def test_memory_is_the_least_that_any_group_above_us_allows(machine):
    _, sys = machine
    assert memory_limit(*machine) == psutil.virtual_memory().total
    (sys / "fs/cgroup/box/memory.max").write_text("1048576\n")
    assert memory_limit(*machine) == 1048576


def test_a_measurement_belongs_to_a_processor_and_a_number_of_gpus(machine, tmp_path):
    devices = discover(*machine)
    (tmp_path / "nvidia0").touch()
    assert "A Processor" in probe_key(devices)
    assert probe_key(devices, tmp_path) != probe_key(devices, tmp_path / "none")
