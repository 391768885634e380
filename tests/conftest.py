"""What holds for every test: hypothesis does not time examples, for a busy machine is no fault of the code, and tiny
models are computed by one thread, for which they are too small to be shared."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as children have it: before torch is imported, or it is not read

import re
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("llmos", deadline=None)
settings.load_profile("llmos")

NEEDS_TORCH = re.compile(r'^(pytest\.importorskip\("torch"\)|pytestmark = pytest\.mark\.torch$)', re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where tests with torch are not wanted, a file of them is not even imported: torch alone takes seconds."""
    if "not torch" not in config.option.markexpr or collection_path.suffix != ".py":
        return None
    return True if NEEDS_TORCH.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> None:
    """What a test says of more threads it says itself: they wait for each other where a machine is busy."""
    if request.node.get_closest_marker("torch"):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    """The number formats that a device may choose: what loads a model is tested in both, whatever the processor."""
    found: str = request.param
    return found
