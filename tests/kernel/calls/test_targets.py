"""What a name, a task and an engine mean, now and after the store or the devices have changed."""

import pytest

from llmos.abi.device import Device
from llmos.abi.error import BadInput, Conflict, ModelNotFound, WrongTask
from llmos.kernel.calls.call_service import Target, Targets
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model


class Ground:
    """A store with a base and two versions of a model, the first promoted; a table with one device."""

    def __init__(self, home):
        self.store = Store(home)
        add_base(self.store)
        self.store.promote(add_model(self.store, "mood", "tiny:1", pid=901).ref)
        add_model(self.store, "mood", "tiny:1", pid=902)
        self.table = ProcessTable()
        self.table.devices = (Device("cpu0", "cpu", "A processor", 1 << 30, cores=2),)
        self.targets = Targets(self.store, self.table, "null")


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


def test_a_name_means_its_promoted_version_and_another_one_once_that_is_promoted(ground):
    assert ground.targets.ref("mood") == "mood:1"
    assert ground.targets.find("mood", "classify", None) == Target("mood:1", "classify", "tiny:1", "cpu0", "null")
    ground.store.promote("mood:2")
    assert ground.targets.ref("mood") == "mood:2"
    assert ground.targets.find("mood", None, None).model == "mood:2"
    ground.store.rollback("mood")
    assert (ground.targets.ref("mood:latest"), ground.targets.ref("mood:2")) == ("mood:1", "mood:2")


def test_a_version_that_was_removed_is_not_found_any_more(ground):
    assert ground.targets.find("mood:2", None, None).model == "mood:2"
    ground.store.remove("mood:2")
    with pytest.raises(ModelNotFound):
        ground.targets.find("mood:2", None, None)


def test_a_name_of_which_no_version_is_promoted_is_none_to_serve(ground):
    add_model(ground.store, "fresh", "tiny:1", pid=903)
    for ask in (ground.targets.ref, lambda name: ground.targets.find(name, None, None)):
        with fails_with(Conflict, name="fresh", candidates=["fresh:1"]):
            ask("fresh")
    ground.store.promote("fresh:1")
    assert ground.targets.ref("fresh") == "fresh:1"


def test_a_refusal_is_not_kept(ground):
    with pytest.raises(WrongTask):
        ground.targets.find("mood", "tag", None)
    with fails_with(BadInput, key="engine", value="nothing"):
        ground.targets.find("mood", None, "nothing")
    assert ground.targets.find("mood", "classify", "pytorch").engine == "pytorch"
    assert ground.targets.find("mood", "classify", None).engine == "null"


def test_a_device_that_is_found_later_is_where_it_goes_from_then_on(ground):
    assert ground.targets.find("mood", None, "pytorch").device == "cpu0"
    ground.table.devices = (*ground.table.devices, Device("cuda0", "cuda", "A GPU", 1 << 30))
    assert ground.targets.find("mood", None, "pytorch").device == "cuda0"
