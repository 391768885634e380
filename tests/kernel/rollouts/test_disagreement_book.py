"""Which texts are kept on which two versions disagree: by opt-in, never against `store: false`; and why not."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmos.abi.call import CallRequest
from llmos.abi.call_record import new_call_id
from llmos.abi.disagreement import CallOrigin
from llmos.abi.disagreement_file import FILE
from llmos.abi.json_type import Json
from llmos.abi.process import Process, Program, Spec, State
from llmos.abi.rollout import Mode, Rollout, Tally, plan_of
from llmos.abi.task import Family
from llmos.kernel.rollouts.disagreement_book import MOST_WAITING, DisagreementBook

TEXT = "where is my parcel"
ANN = CallOrigin("req_1", "ann", "k1")
CALL = CallRequest("mood:2", ("fine", TEXT), task="classify", rollout="0a", origin=ANN)
OURS, THEIRS = [{"label": "a"}, {"label": "a"}], [{"label": "a"}, {"label": "b"}]


def rollout(mode: Mode = Mode.SHADOW) -> Rollout:
    plan = plan_of(Family.LABELS, 3, mode=mode)
    return Rollout("0a", "mood", 2, plan, 0.0, tallies={"agreement": Tally(4, 2.5)})


def book_in(home: Path, *, is_on: bool = True) -> DisagreementBook:
    return DisagreementBook(home, is_on, lambda text: f"id of {text}", lambda: 7.0)


def with_book(home: Path, act: Callable[[DisagreementBook], Awaitable[None]], *, is_on: bool = True) -> None:
    async def main() -> None:
        book = book_in(home, is_on=is_on)
        await book.open()
        await act(book)
        await book.close()

    asyncio.run(main())


def test_the_texts_on_which_versions_disagree_are_kept_with_where_they_are_from(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        (row,) = await book.find("mood", "", 10)
        assert (row.text, row.text_id, row.at, row.index) == (TEXT, f"id of {TEXT}", 7.0, 1)
        assert row.answers == {"mood:2": "a", "mood:3": "b"}
        assert (row.rollout, row.mode, row.call, row.user, row.key) == ("0a", "shadow", "req_1", "ann", "k1")
        assert "ann" not in str(row.provenance)
        state = book.state(rollout())
        assert (state.pairs, state.differing, state.kept, state.is_on, state.left_out) == (4, 1.5, 1, True, {})
        assert "label" in state.sentence

    with_book(tmp_path, act)


def test_without_the_setting_nothing_is_kept_and_the_rollout_says_so(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        assert await book.find("mood", "", 10) == []
        assert "rollout_texts" in book.state(rollout()).sentence

    with_book(tmp_path, act, is_on=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (replace(CALL, origin=replace(ANN, may_keep=False)), "store: false"),
        (replace(CALL, origin=None), "store: false"),
        (replace(CALL, inputs=("fine", "x" * 70_000)), "too long"),
        (replace(CALL, task="tag"), "task"),
    ],
    ids=["store", "nobody", "long", "tags"],
)
def test_what_must_not_be_kept_is_counted_and_not_kept(tmp_path: Path, call: CallRequest, reason: str):
    spans: list[Json] = [{"spans": []}, {"spans": [{"start": 0, "end": 1, "label": "A"}]}]
    answers = ([{"spans": []}, {"spans": []}], spans) if call.task == "tag" else (OURS, THEIRS)

    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), call, "mood:3", *answers)
        assert await book.find("mood", "", 10) == []
        assert book.state(rollout()).left_out == {reason: 1}

    with_book(tmp_path, act)
    assert list(tmp_path.iterdir()) == []


def test_answers_that_agree_or_cannot_be_compared_leave_no_row(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, OURS)
        book.note(rollout(), CALL, "mood:3", OURS, ())
        assert await book.find("mood", "", 10) == []

    with_book(tmp_path, act)


def test_a_users_rows_are_erased_also_those_that_are_just_being_written(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        book.note(rollout(), replace(CALL, origin=CallOrigin("req_2", "bob")), "mood:3", OURS, THEIRS)
        assert await book.erase("ann") == 1
        assert [one.user for one in await book.find("mood", "", 10)] == ["bob"]
        assert book.state(rollout()).kept == 1

    with_book(tmp_path, act)


def test_a_copy_that_is_answered_after_its_user_was_erased_leaves_no_text(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        before, after = (replace(CALL, origin=CallOrigin(new_call_id(at), "ann")) for at in (6.0, 8.0))
        assert await book.erase("ann") == 0
        book.note(rollout(), before, "mood:3", OURS, THEIRS)
        assert await book.find("mood", "", 10) == []
        assert book.state(rollout()).left_out == {"user erased": 1}
        book.note(rollout(), after, "mood:3", OURS, THEIRS)
        assert len(await book.find("mood", "ann", 10)) == 1

    with_book(tmp_path, act)


def test_who_lists_or_erases_waits_for_nothing_that_comes_later(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        async def keep_noting() -> None:
            number = 0
            while True:
                number += 1
                call = replace(CALL, inputs=("fine", f"text {number}"))
                book.note(rollout(), call, "mood:3", OURS, THEIRS)
                await asyncio.sleep(0)

        noting = asyncio.create_task(keep_noting())
        try:
            async with asyncio.timeout(60):  # a hang, and no measurement
                assert book.state(rollout()).kept == 0
                while not await book.find("mood", "", 10):
                    pass
                assert await book.erase("ann") > 0
        finally:
            noting.cancel()

    with_book(tmp_path, act)


def test_rows_that_come_one_by_one_are_written_together(tmp_path: Path):
    async def main() -> None:
        book = DisagreementBook(tmp_path, True, lambda text: text, lambda: 7.0, gather_s=3_600.0)
        for number in range(3):
            book.note(rollout(), replace(CALL, inputs=("fine", f"text {number}")), "mood:3", OURS, THEIRS)
            await asyncio.sleep(0.01)
            assert not book.path.exists()
        assert len(await book.find("mood", "", 10)) == 3
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        await book.close()
        assert book.state(rollout()).kept == 4

    asyncio.run(main())


def test_more_than_may_wait_is_dropped_and_counted(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        many = MOST_WAITING + 5
        call = replace(CALL, inputs=tuple(f"text {at}" for at in range(many)))
        book.note(rollout(), call, "mood:3", [{"label": "a"}] * many, [{"label": "b"}] * many)
        assert book.state(rollout()).left_out == {"not written": 5}
        assert len(await book.find("mood", "", 2 * many)) == MOST_WAITING

    with_book(tmp_path, act)


def test_more_bytes_than_may_wait_are_dropped_and_counted(tmp_path: Path):
    call = replace(CALL, inputs=tuple(letter * 400 for letter in "abc"))  # of texts, and little more of answers
    answers: tuple[list[Json], list[Json]] = ([{"label": "a"}] * 3, [{"label": "b"}] * 3)

    async def main() -> None:
        book = DisagreementBook(tmp_path, True, lambda text: text, lambda: 7.0, 3_600.0, most_waiting_bytes=1_000)
        book.note(rollout(), call, "mood:3", *answers)
        assert book.state(rollout()).left_out == {"not written": 1}
        assert len(await book.find("mood", "", 10)) == 2
        book.note(rollout(), call, "mood:3", *answers)
        assert book.state(rollout()).left_out == {"not written": 2}
        await book.close()

    asyncio.run(main())


def test_a_file_that_cannot_be_written_loses_rows_and_fails_nothing(tmp_path: Path):
    (tmp_path / "rollouts").write_text("a file where a folder should be")

    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        await book.close()
        assert book.state(rollout()).left_out == {"not written": 1}

    with_book(tmp_path, act)


def test_a_damaged_file_counts_as_empty_and_nothing_is_erased_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(b"no database, but longer than the header of one. " * 100)

    async def act(book: DisagreementBook) -> None:
        assert book.state(rollout()).kept == 0
        assert len(caplog.records) == 1
        assert str(book.path) in caplog.text
        with pytest.raises(sqlite3.Error):
            await book.erase("ann")

    with_book(tmp_path, act)


def test_rows_of_before_are_counted_at_the_start(tmp_path: Path):
    async def fill(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)

    async def look(book: DisagreementBook) -> None:
        assert book.state(rollout()).kept == 1
        assert book.state(rollout(Mode.AB)).kept == 1

    with_book(tmp_path, fill)
    with_book(tmp_path, look, is_on=False)


def test_rows_whose_time_is_over_go_and_those_of_names_that_are_gone(tmp_path: Path):
    now, day_s = [7.0], 86_400.0

    async def main() -> None:
        book = DisagreementBook(tmp_path, True, lambda text: f"id of {text}", lambda: now[0], days=2)
        await book.open()
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        book.note(replace(rollout(), name="tone"), replace(CALL, origin=replace(ANN, user="bob")), "t:3", OURS, THEIRS)
        now[0] += day_s
        await book.sweep({"mood"})
        assert (len(await book.find("mood", "", 9)), await book.find("tone", "", 9)) == (1, [])
        now[0] += day_s + 1
        await book.sweep({"mood"})
        assert (await book.find("mood", "", 9), book.state(rollout()).kept) == ([], 0)
        await book.close()

    asyncio.run(main())


def test_rows_of_a_name_go_with_its_last_version(tmp_path: Path):
    async def act(book: DisagreementBook) -> None:
        book.note(rollout(), CALL, "mood:3", OURS, THEIRS)
        await book.forget("tone")
        assert len(await book.find("mood", "", 9)) == 1
        await book.forget("mood")
        assert (await book.find("mood", "", 9), book.state(rollout()).kept) == ([], 0)

    with_book(tmp_path, act)
    assert not any(TEXT.encode() in one.read_bytes() for one in tmp_path.rglob("*") if one.is_file())


def test_an_erased_text_goes_from_the_results_that_have_it(tmp_path: Path):
    rows = [{"id": f"id of {TEXT}", "text": TEXT, "disagreement": {}}, {"id": "own", "text": "own"}]
    path = tmp_path / "evaluations" / "5" / "result.json"
    path.parent.mkdir(parents=True)

    async def act(book: DisagreementBook) -> None:
        path.write_text(json.dumps({"rows": rows}))
        for user in ("ann", "bob"):
            book.note(rollout(), replace(CALL, origin=replace(ANN, user=user)), "mood:3", OURS, THEIRS)
        await book.erase("bob")
        assert json.loads(path.read_text())["rows"] == rows  # another user's calls have it still
        await book.erase("ann")
        assert json.loads(path.read_text())["rows"] == rows[1:]
        path.write_text(json.dumps({"rows": rows}))  # by a process that had read the text before
        book.look(Process(5, Spec(Program("queue-data"), {}), State.EXITED))

    with_book(tmp_path, act)
    assert json.loads(path.read_text())["rows"] == rows[1:]
