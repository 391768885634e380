"""The ledger: whatever is taken and given back, it adds up, and nothing is leased twice."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.error import Internal, NoRoom
from llmos.kernel.processes.ledger import Ledger
from llmos.testing.errors import fails_with

DEVICES = (Device("cpu0", "cpu", "a", memory_bytes=1000), Device("cuda0", "cuda", "b", memory_bytes=500))
LEASES = st.builds(
    Lease, st.integers(1, 5), st.sampled_from(["cpu0", "cuda0"]), st.sampled_from(LeaseKind), st.integers(0, 400)
)


@given(st.lists(LEASES | st.integers(1, 5)))
def test_the_ledger_never_leases_more_than_there_is_and_always_audits(steps):
    ledger = Ledger(DEVICES)
    for step in steps:
        if isinstance(step, int):
            ledger.release(step)
        else:
            free = ledger.free(step.device)
            with pytest.raises(NoRoom) if step.size_bytes > free else nullcontext():
                ledger.take(step)
        ledger.audit(range(1, 6))
        for device in DEVICES:
            held = sum(ledger.held_bytes(pid, device.name) for pid in range(1, 6))
            assert held + ledger.free(device.name) == device.memory_bytes
            assert ledger.free(device.name) >= 0


def test_the_audit_names_who_is_gone_and_still_holds_bytes():
    ledger = Ledger(DEVICES)
    ledger.take(Lease(3, "cpu0", LeaseKind.WEIGHTS, 7))
    with fails_with(Internal, strays={3: 7}):
        ledger.audit([1, 2])


def test_only_the_share_of_a_device_is_leased():
    assert Ledger(DEVICES, share=0.5).free("cpu0") == 500


def test_an_unknown_device_has_no_room_and_says_which_there_are():
    with fails_with(NoRoom, device="cuda9", expected=["cpu0", "cuda0"]):
        Ledger(DEVICES).take(Lease(1, "cuda9", LeaseKind.WEIGHTS, 1))
