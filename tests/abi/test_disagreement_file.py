"""The file of disagreements: bounded, one row for each text and user, erased to the last byte, whole after a kill."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi import disagreement_file
from llmos.abi.disagreement import Disagreement

ONE = Disagreement(
    0, 1.5, "m", "classify", "t1", "é b", {"m:1": "x", "m:2": ["x", "y"]}, "r1", "shadow", "req_1", 2, "cat", "k1"
)
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from llmos.abi import disagreement_file
from llmos.abi.disagreement import Disagreement
with disagreement_file.open_disagreements(Path(sys.argv[1])) as database:
    for at in range(1_000_000):
        row = Disagreement(0, 1.0, "m", "classify", f"t{at}", f"text {at}", {"m:1": "a", "m:2": "b"}, "r", "shadow")
        disagreement_file.add_rows(database, [row])
        print(at, flush=True)
"""


def add(path: Path, *rows: Disagreement, most: int = 100) -> None:
    with disagreement_file.open_disagreements(path) as database:
        disagreement_file.add_rows(database, rows, most)


def newest(path: Path, user: str = "") -> list[Disagreement]:
    with disagreement_file.open_disagreements(path) as database:
        return disagreement_file.newest(database, "m", user, 1_000)


def test_a_row_comes_back_as_it_was(tmp_path: Path):
    add(tmp_path / "d.db", ONE)
    assert newest(tmp_path / "d.db") == [replace(ONE, id=1)]


def test_a_text_that_comes_again_has_one_row_that_counts_it(tmp_path: Path):
    path = tmp_path / "d.db"
    add(path, ONE, replace(ONE, rollout="r2"), replace(ONE, user="ann"))
    assert [(one.user, one.rollout, one.count) for one in newest(path)] == [("ann", "r1", 1), ("cat", "r2", 2)]
    with disagreement_file.open_disagreements(path) as database:
        (text,) = disagreement_file.texts_of(database, "m")
        assert (text.id, text.count) == (3, 3)
        assert disagreement_file.counts_of(database) == {"m": 1}
        assert [disagreement_file.count_of(database, model) for model in "mn"] == [1, 0]
        assert list(disagreement_file.texts_of(database, "n")) == []


def test_what_a_user_has_asked_goes_to_the_last_byte(tmp_path: Path):
    path, text = tmp_path / "d.db", "words that nobody else has written"
    add(path, replace(ONE, user="ann", text=text, text_id="t9"), ONE)
    assert any(text.encode() in one.read_bytes() for one in tmp_path.iterdir())
    with disagreement_file.open_disagreements(path) as database:
        assert disagreement_file.erase_user(database, "") == 0
        assert disagreement_file.erase_user(database, "ann") == 1
    assert all(text.encode() not in one.read_bytes() for one in tmp_path.iterdir())
    assert [one.user for one in newest(path)] == ["cat"]


@given(
    st.lists(
        st.tuples(st.sampled_from("mn"), st.integers(0, 5), st.sampled_from(["", "ann", "bob"]), st.booleans()),
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_of_each_model_the_newest_rows_stay_and_others_are_as_they_were(tmp_path_factory, said, most: int):
    path = tmp_path_factory.mktemp("rows") / "d.db"
    expected: dict[str, dict[tuple[str, str], int]] = {"m": {}, "n": {}}
    with disagreement_file.open_disagreements(path) as database:
        for model, text, user, is_erased in said:
            rows = expected[model]
            if is_erased:
                gone = disagreement_file.erase_user(database, user)
                kept = {
                    name: {key: n for key, n in rows.items() if not user or key[1] != user}
                    for name, rows in expected.items()
                }
                assert gone == sum(map(len, expected.values())) - sum(map(len, kept.values()))
                expected = kept
                continue
            key = (f"t{text}", user)
            rows[key] = rows.pop(key, 0) + 1
            for oldest in list(rows)[:-most]:
                del rows[oldest]
            row = replace(ONE, model=model, text_id=key[0], text=key[0], user=user)
            disagreement_file.add_rows(database, [row], most)
        for model, rows in expected.items():
            found = disagreement_file.newest(database, model, "", 1_000)
            assert [(one.text_id, one.user, one.count) for one in reversed(found)] == [
                (*key, count) for key, count in rows.items()
            ]


def test_what_was_written_outlives_a_kill(tmp_path: Path):
    path = tmp_path / "d.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
        said += [int(line) for line in writer.stdout if line.endswith("\n")]
    assert said == list(range(len(said)))
    with disagreement_file.open_disagreements(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = {one.text for one in disagreement_file.texts_of(database, "m")}
    assert {f"text {at}" for at in said} <= found
