"""Installing, removing and showing the unit, with a systemd that only keeps what it was asked."""

import os
from pathlib import Path

import pytest

from llmos.abi.error import Conflict, Forbidden, NotFound, Unavailable
from llmos.service.installation import UnitPlace, install, main_pid, name_of, owner_of, show, uninstall
from llmos.service.unit import ServiceUnit
from llmos.testing.errors import fails_with
from llmos.testing.unit_control import MemoryUnitControl


@pytest.fixture
def place(tmp_path):
    return UnitPlace(tmp_path / "units", "llmos", is_user=True)


@pytest.fixture
def unit(tmp_path):
    return ServiceUnit(Path("/opt/llmos/bin/python"), tmp_path / "home")


def test_it_is_written_enabled_and_started(place, unit):
    control = MemoryUnitControl()
    assert install(unit, place, control, daemon=None) == ""
    assert place.path.read_text() == unit.text
    assert control.asked == [("daemon-reload",), ("enable", "llmos.service"), ("restart", "llmos.service")]
    assert [path.name for path in place.folder.iterdir()] == ["llmos.service"]
    shown = show(place, control)
    assert (shown["active"], main_pid(shown)) == ("active", 4711)
    assert "More" not in shown


def test_without_a_start_it_waits_for_the_machine_s(place, unit):
    control = MemoryUnitControl()
    install(unit, place, control, daemon=None, starts=False)
    assert main_pid(show(place, control)) is None


def test_a_second_installation_replaces_the_first_and_starts_it_again(place, unit):
    control = MemoryUnitControl()
    install(unit, place, control, daemon=None)
    install(ServiceUnit(unit.python, unit.home, stop_grace_s=1.0), place, control, daemon=4711)
    assert "TimeoutStopSec=31" in place.path.read_text()


def test_a_daemon_that_is_no_service_is_to_be_ended_first(place, unit):
    with fails_with(Conflict, os_pid=12):
        install(unit, place, MemoryUnitControl(), daemon=12)
    assert not place.path.exists()


def test_a_unit_of_somebody_else_stays(place, unit):
    place.folder.mkdir()
    place.path.write_text("[Service]\n")
    with fails_with(Conflict, path=str(place.path)):
        install(unit, place, MemoryUnitControl(), daemon=None)
    with fails_with(Conflict, path=str(place.path)):
        uninstall(place, MemoryUnitControl())
    assert place.path.read_text() == "[Service]\n"


def test_a_unit_that_systemd_does_not_take_is_not_installed(place, unit):
    control = MemoryUnitControl(wrong="Unknown key")
    with fails_with(Unavailable):
        install(unit, place, control, daemon=None)
    assert list(place.folder.iterdir()) == []
    assert control.asked == []


def test_a_start_that_fails_is_an_error(place, unit):
    with fails_with(Unavailable):
        install(unit, place, MemoryUnitControl(fails="restart"), daemon=None)


def test_without_systemd_nothing_is_written(place, unit):
    for refused in (
        lambda control: install(unit, place, control, daemon=None),
        lambda control: show(place, control),
    ):
        with fails_with(Unavailable):
            refused(MemoryUnitControl(booted=False))
    assert not place.folder.exists()


def test_it_is_removed_and_the_home_stays(place, unit):
    unit.home.mkdir()
    control = MemoryUnitControl()
    install(unit, place, control, daemon=None)
    uninstall(place, control)
    assert control.asked[-2:] == [("disable", "--now", "llmos.service"), ("daemon-reload",)]
    assert (place.path.exists(), unit.home.exists(), main_pid(show(place, control))) == (False, True, None)
    with fails_with(NotFound):
        uninstall(place, control)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every folder")
def test_the_machine_s_unit_is_written_by_root_alone(tmp_path, unit):
    folder = tmp_path / "units"
    folder.mkdir(mode=0o500)
    with fails_with(Forbidden):
        install(unit, UnitPlace(folder, "llmos", is_user=False), MemoryUnitControl(), daemon=None)


def test_the_home_s_user_is_the_owner_of_what_is_there(tmp_path):
    assert owner_of(tmp_path / "not" / "made") == name_of(os.geteuid())
    assert name_of(987654321) == "987654321"


def test_a_home_that_is_not_there_is_made_for_the_service_s_user(tmp_path):
    user = name_of(os.geteuid())
    unit = ServiceUnit(Path("/p"), tmp_path / "deep" / "home", user)
    install(unit, UnitPlace(tmp_path / "units", "llmos", is_user=True), MemoryUnitControl(), daemon=None)
    assert (unit.home.stat().st_mode & 0o777, unit.home.stat().st_uid) == (0o700, os.geteuid())
