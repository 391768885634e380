"""The ledger of a batch's lines: whatever is torn or lost, each line is answered once, in order."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.batch import ERRORS, OUTPUT
from llmos.programs.batch_ledger import BatchLedger

IDS = [f"line-{number}" for number in range(40)]
IS_ERROR = [number % 3 == 1 for number in range(40)]


def line(place: int) -> bytes:
    return json.dumps({"id": "x", "custom_id": IDS[place], "response": None, "error": None}).encode()


def add_some(ledger: BatchLedger, count: int) -> None:
    """The next answers, as a process would write them."""
    for place in range(ledger.count, min(len(IDS), ledger.count + count)):
        ledger.add(line(place), is_error=IS_ERROR[place])


def recovered(folder: Path) -> BatchLedger:
    ledger = BatchLedger(folder)
    ledger.recover(iter(IDS))
    return ledger


def ids_in(path: Path) -> list[str]:
    return [json.loads(one)["custom_id"] for one in path.read_text().splitlines()]


# how many lines a life writes; then how many bytes each file loses, for neither is on the disk before the other
LIVES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 300), st.integers(0, 300)), max_size=8)


@given(LIVES)
def test_each_line_is_in_one_file_once_and_in_order_after_any_crashes(lives: list[tuple[int, int, int]]):
    with TemporaryDirectory() as home:
        folder = Path(home)
        for count, *losses in lives:
            ledger = recovered(folder)
            add_some(ledger, count)
            ledger.close()
            for name, lost in zip((OUTPUT, ERRORS), losses, strict=True):
                path = folder / name
                with path.open("r+b") as file:
                    file.truncate(max(0, path.stat().st_size - lost))
        ledger = recovered(folder)
        add_some(ledger, len(IDS))
        ledger.close()
        assert ids_in(folder / OUTPUT) == [one for one, bad in zip(IDS, IS_ERROR, strict=True) if not bad]
        assert ids_in(folder / ERRORS) == [one for one, bad in zip(IDS, IS_ERROR, strict=True) if bad]
        assert (ledger.completed, ledger.failed) == (IS_ERROR.count(False), IS_ERROR.count(True))


def test_what_was_flushed_is_kept_by_the_next_life(tmp_path: Path):
    first = recovered(tmp_path)
    add_some(first, 7)
    first.flush()
    second = recovered(tmp_path)
    assert second.count == 7
    first.release()
    second.release()


def test_bytes_that_are_no_line_are_cut_off(tmp_path: Path):
    first = recovered(tmp_path)
    add_some(first, 4)
    first.close()
    with (tmp_path / OUTPUT).open("ab") as file:
        file.write(b'{"custom_id": 3}\n' + line(4) + b"\n")
    again = recovered(tmp_path)
    assert again.count == 4
    again.close()
    assert ids_in(tmp_path / OUTPUT) == [IDS[0], IDS[2], IDS[3]]
