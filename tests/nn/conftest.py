"""The CPU paths: tests that ask for `each_path` run with the loops of each that this processor and compiler have."""

from __future__ import annotations

import os

import pytest

from llmos.abi.cpu import PATHS, check
from llmos.abi.error import BadSetting
from llmos.nn.cpu import cpu_path


def lacking(name: str) -> str:
    """Why there is no such path here; nothing where there is one."""
    try:
        check(name)
    except BadSetting as error:
        return error.message
    return ""


OWN = [path.name for path in PATHS if not path.loops]
LACKING = {name: why for name in OWN if (why := lacking(name))}


@pytest.fixture(scope="module", params=[name for name in OWN if name not in LACKING])
def each_path(request):
    """One path after the other; torch itself stays as it is, for it has computed already."""
    before = dict(os.environ)
    cpu_path.use(request.param)
    try:
        yield request.param
    finally:
        os.environ.clear()
        os.environ.update(before)
        cpu_path.use("auto")


@pytest.fixture(params=OWN)
def path_here(request):
    """Each path that there is a loop for; skipped, saying what is lacking, where this machine cannot run it."""
    if why := LACKING.get(request.param):
        pytest.skip(why)
    return request.param
