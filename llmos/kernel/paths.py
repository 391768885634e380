"""Which local files a request may name: any on a loopback address, else only those below `data_roots`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llmos.abi.gate import SUITE, GatePolicy
from llmos.abi.json_type import Json
from llmos.abi.roots import refusal
from llmos.abi.row_path import split_part
from llmos.config import Config, is_loopback
from llmos.kernel.programs import declaration_of

MAX_PATH = 4096  # PATH_MAX of Linux


class Roots:
    """The folders below which requests may name files. Symbolic links are resolved before the comparison.

    Paths are checked when a request comes and again when its process starts, and only the resolved path is passed on.
    The process checks once more what it has opened (abi/roots).
    """

    def __init__(self, config: Config) -> None:
        is_open = is_loopback(config.host) and not config.data_roots
        self._roots = None if is_open else tuple(Path(os.path.realpath(root)) for root in config.data_roots)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders, resolved; empty if any file may be named."""
        return tuple(map(str, self._roots or ()))

    def with_real_paths(self, program: str, args: Mapping[str, Json]) -> dict[str, Json]:
        """These arguments with every path resolved; PathNotAllowed for one outside."""
        found = dict(args)
        return found if self._roots is None else declaration_of(program).follow_paths(found, self)

    def with_real_suites(self, policy: GatePolicy) -> GatePolicy:
        """The gate's policy with the path of every suite in it followed to where it leads; likewise."""
        if self._roots is None:
            return policy
        followed = [
            replace(one, argument=self.follow(one.argument)) if one.kind == SUITE else one
            for one in policy.requirements
        ]
        return replace(policy, require=tuple(map(str, followed)))

    def follow(self, source: str) -> str:
        """Resolve a path; a value that is not a path (a dataset, a catalog name, a hub repository) stays as it is."""
        if not source.startswith("/"):
            return source
        path, part = split_part(source)
        real = os.path.realpath(path) if len(source) <= MAX_PATH and "\0" not in source else ""
        self._check(source, real)
        return f"{real}:{part}" if part else real

    def check_inside(self, folder: Path) -> None:
        """Raise PathNotAllowed if a link in this folder leads outside of the roots, also for files beside a graph."""
        for path in (folder if folder.is_dir() else folder.parent).rglob("*"):
            self._check(str(path), os.path.realpath(path))

    def _check(self, said: str, real: str) -> None:
        roots: Sequence[Path] = self._roots or ()
        if any(Path(real).is_relative_to(root) for root in roots):
            return
        raise refusal(said, roots)
