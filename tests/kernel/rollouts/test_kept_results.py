"""Results of processes lose the rows whose texts are erased, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmos.kernel.rollouts.kept_results import RESULT, drop_texts

OWN: dict[str, Any] = {"id": "t0", "text": "of the dataset", "suggestions": []}  # Any: JSON


def disputed(text_id: str) -> dict[str, Any]:  # Any: JSON
    return {"id": text_id, "text": f"text {text_id}", "disagreement": {"call": "req_1"}}


def result_in(folder: Path, pid: int, *rows: Any) -> Path:  # Any: JSON
    path = folder / str(pid) / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"dataset": "d@1", "rows": list(rows)}))
    return path


def test_rows_of_erased_texts_go_and_all_else_stays(tmp_path: Path) -> None:
    first = result_in(tmp_path, 1, disputed("t1"), OWN, disputed("t2"))
    other = result_in(tmp_path, 2, OWN)
    before = other.stat().st_mtime_ns
    assert drop_texts(tmp_path, {"t2"}) == 1
    assert json.loads(first.read_text()) == {"dataset": "d@1", "rows": [OWN, disputed("t2")]}
    assert (other.stat().st_mtime_ns, "text t1" in first.read_text()) == (before, False)
    assert drop_texts(tmp_path, {"t2"}) == 0


def test_one_result_alone_is_looked_at_where_it_is_named(tmp_path: Path) -> None:
    results = [result_in(tmp_path, pid, disputed("t1")) for pid in (1, 2)]
    assert drop_texts(tmp_path, (), 2) == 1
    assert ["text t1" in one.read_text() for one in results] == [True, False]
    assert drop_texts(tmp_path, (), 3) == 0


def test_a_damaged_result_and_one_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    result_in(tmp_path, 1).write_text('{"rows": "disagreement"')
    result_in(tmp_path, 2).write_text('{"rows": "disagreement", "disagreement": 1}')
    last = result_in(tmp_path, 3, disputed("t1"))
    assert drop_texts(tmp_path, ()) == 1
    assert json.loads(last.read_text())["rows"] == []
    assert drop_texts(tmp_path / "none", ()) == 0
