"""What holds for every test: hypothesis does not time examples, for a busy machine is no fault of the code, and tiny
models are computed by one thread, for which they are too small to be shared."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as children have it: before torch is imported, or it is not read

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("llmos", deadline=None)
settings.load_profile("llmos")

# Folders whose files take minutes begin, the slowest first: two workers then end together.
SLOWEST = ("acceptance", "training", "engines", "nn")
# Files whose tests ask the one daemon that none of them breaks: one worker has them all, and starts it once.
OF_ONE_DAEMON = re.compile(
    r"/acceptance/test_(answers_under_rules|bad_input|crashes|dates|neighbours|openai|reading|templates|writers)\.py"
)
NEEDS_TORCH = re.compile(r'^(pytest\.importorskip\("torch"\)|pytestmark = pytest\.mark\.torch$)', re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where tests with torch or the real daemon are not wanted, a file of them is not even imported: torch alone takes
    seconds."""
    if "not acceptance" in config.option.markexpr and collection_path == Path(__file__).with_name("acceptance"):
        return True
    if "not torch" not in config.option.markexpr or collection_path.suffix != ".py":
        return None
    return True if NEEDS_TORCH.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A set has another order in every process, so that two workers would collect other tests than each other."""
    for marker in metafunc.definition.iter_markers("parametrize"):
        if any(isinstance(values, (set, frozenset)) for values in marker.args[1:2]):
            raise pytest.UsageError(f"{metafunc.definition.nodeid} goes through a set: give its values an order")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest folders first, and of them first what shares a daemon."""
    items.sort(key=lambda item: (_rank_of(item.path), OF_ONE_DAEMON.search(item.path.as_posix()) is None))


def _rank_of(path: Path) -> int:
    folder = path.relative_to(Path(__file__).parent).parts[0]
    return SLOWEST.index(folder) if folder in SLOWEST else len(SLOWEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:  # Any: pytest-xdist may be absent
    """Of `--dist loadfile`: files that share a daemon are one file to it."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneDaemonScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "one daemon" if OF_ONE_DAEMON.search(f"/{file}") else file

    return OneDaemonScheduling(config, log)


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
