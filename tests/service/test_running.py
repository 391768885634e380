"""Which unit a running daemon is, and that it is stopped and started through systemd."""

import pytest

from llmos.abi.error import Unavailable
from llmos.service.running import RunningUnit, unit_of
from llmos.testing.errors import fails_with
from llmos.testing.unit_control import MemoryUnitControl


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/llmos.service\n", ("llmos.service", False)),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/llmos-2.service", ("llmos-2.service", True)),
        ("12:pids:/x\n1:name=systemd:/system.slice/llmos.service", ("llmos.service", False)),
    ],
)
def test_the_control_group_names_the_unit(cgroup, unit):
    assert unit_of(cgroup) == unit


@pytest.mark.parametrize("cgroup", ["", "0::/", "0::/user.slice/session-1.scope", "0::/a/-;x y.service"])
def test_another_control_group_names_none(cgroup):
    with fails_with(Unavailable):
        unit_of(cgroup)


def test_it_is_stopped_and_started_by_its_name():
    control = MemoryUnitControl()
    unit = RunningUnit("llmos.service", control)
    unit.stop()
    unit.start()
    unit.restart()
    assert control.asked == [(verb, "llmos.service") for verb in ("stop", "start", "restart")]
    with fails_with(Unavailable):
        RunningUnit("llmos.service", MemoryUnitControl(fails="stop")).stop()
