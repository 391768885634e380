"""The programs: one file each. Finds a program's declaration by its name, here and in installed packages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules

from llmos.abi.error import BadInput
from llmos.abi.process import Program
from llmos.kernel.programs.declaration import Declaration, check_declaration
from llmos.kernel.programs.traits import Traits

GROUP = "llmos.programs"  # the entry-point group by which other packages add programs
UNKNOWN = Traits()  # for a program whose package was removed, in a home that ran it
log = logging.getLogger(__name__)


def declaration_of(name: str) -> Declaration:
    """The program of this name; BadInput that lists all programs if there is none."""
    if name not in declarations():
        raise BadInput(
            f"No program {name!r}; program is one of {', '.join(declarations())}",
            key="program",
            value=name,
            expected=list(declarations()),
        )
    return declarations()[name]


def traits_of(name: str) -> Traits:
    """The traits of this program."""
    declaration = declarations().get(name)
    return UNKNOWN if declaration is None else declaration.traits


@cache
def declarations() -> Mapping[str, Declaration]:
    """Every program by name: those of this folder, then those of other packages. They are loaded once."""
    return with_plugins(built_in(), entry_points(group=GROUP))


def dataset_operations() -> dict[str, Program]:
    """The programs that are an operation on one dataset, by the operation's name."""
    return {one.operation: one.name for one in declarations().values() if one.operation}


def built_in() -> dict[str, Declaration]:
    """The programs of this folder: the `PROGRAM` of every file that has one."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    programs = [module.PROGRAM for module in modules if hasattr(module, "PROGRAM")]
    return {program.name: program for program in programs}


def with_plugins(known: Mapping[str, Declaration], points: Iterable[EntryPoint]) -> dict[str, Declaration]:
    """These programs and those of other packages. A broken one is logged and left out."""
    found = dict(known)
    for point in sorted(points, key=lambda one: (one.name, one.value)):
        try:
            program = check_declaration(point.load())
            if program.name in found:
                raise ValueError(f"there is a program {program.name!r} already")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # another's code: the daemon starts without it
            log.error("the program %s (%s) is left out: %s: %s", point.name, point.value, type(error).__name__, error)
        else:
            found[program.name] = program
    return found
