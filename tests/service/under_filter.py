"""Starts a program under the system call filter and address families of a unit file, as systemd would.

    python under_filter.py UNIT PROGRAM...

libseccomp is called through ctypes: systemd's own library for this, so it is where systemd is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

ALLOW, ERRNO, EQUAL = 0x7FFF0000, 0x00050000, 4
NAMESPACES = {"unshare", "setns"}  # RestrictNamespaces=yes; clone's flags are left to it


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp: the argument's number, the comparison and what with."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def calls_of(group: str) -> set[str]:
    """The system calls of a group, as this machine's systemd knows them."""
    words = ["systemd-analyze", "--no-pager", "syscall-filter", group]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: set[str] = set()
    for line in map(str.strip, done.stdout.splitlines()[1:]):
        if line.startswith("@"):
            found |= calls_of(line)
        elif line and not line.startswith("#"):
            found.add(line)
    return found


def settings_of(unit: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in unit.read_text().splitlines() if "=" in line and line[0] not in "#[")
    return {key: value for key, _, value in lines}


def confine(unit: Path) -> None:
    """From here on this process and all that it starts have the unit's system calls, and no others."""
    settings = settings_of(unit)
    assert settings["SystemCallErrorNumber"] == "EPERM"
    allowed = calls_of(settings["SystemCallFilter"]) - {"socket"} - NAMESPACES
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ERRNO | errno.EPERM))
    for name in sorted(allowed):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other processors
            assert library.seccomp_rule_add_array(context, ALLOW, number, 0, None) == 0, name
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in settings["RestrictAddressFamilies"].split():
        only = Comparison(0, EQUAL, getattr(socket, family), 0)
        assert library.seccomp_rule_add_array(context, ALLOW, number, 1, ctypes.byref(only)) == 0, family
    assert library.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
