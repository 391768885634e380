"""The bench of tuning: a search and a training on the same rows, held against each other, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.public_sets import PublicSet
from bench.record import Figure
from bench.tune import BUDGET, measure_set

ONE = PublicSet("sorting", "classify", "train.csv", "train.csv")


def sorting(folder: Path, rows: int = 40) -> Path:
    lines = [f"number {i},{'fruit' if i % 2 else 'metal'}" for i in range(rows)]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines]))
    return folder


class Box:
    """A daemon whose runs end at once; the search finds `tuned`, the defaults give `default`."""

    def __init__(self, tuned: float, default: float) -> None:
        self.values = {"tune": tuned, "train": default}
        self.runs: list[dict[str, Any]] = []  # Any: as JSON

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        if (method, path) == ("GET", "/v1/processes"):
            return {"data": []}
        if method == "POST":
            self.runs.append(body)
            return {"pid": len(self.runs)}
        if path.endswith("/result"):
            settings = {"method": "lora", "learning_rate": 1e-4}
            trials = [{"number": 3, "is_default": False, "settings": settings}]
            return {"made": f"model:{int(path.split('/')[-2])}", "winner": 3, "trials": trials}
        if path.startswith("/v1/models"):
            return self.version(int(path.rpartition(":")[2]))
        pid = int(path.split("/")[-1])
        made = [] if self.runs[pid - 1]["program"] == "tune" else ["rows@1", f"model:{pid}"]
        return {"pid": pid, "state": "exited", "exit_code": 0, "made": made, "usage": {"cpu_s": 5.0}}

    def version(self, run: int) -> Any:
        program = self.runs[run - 1]["program"]
        value = self.values[program]
        less = {"difference": value - self.values["tune"], "low": -0.3, "high": 0.1}
        evidence = {"metrics": {"accuracy": value}, "intervals": {"accuracy": {"low": 0.5, "high": 0.95}}}
        evidence |= {"compared": less} if program == "train" else {}
        return {"evidence": evidence, "lineage": {"recipe": {"method": "lora"}}}


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {one.name: one for one in figures}


def test_search_and_training_have_the_same_rows_and_the_seed_and_nothing_else_set(tmp_path: Path):
    box = Box(0.9, 0.89)
    measure_set(sorting(tmp_path), tmp_path / "kept", box, ONE, (4,), 20)
    search, training = box.runs
    assert (search["program"], training["program"]) == ("tune", "train")
    assert search["args"] == training["args"] | {"budget": BUDGET}
    assert search["args"]["seed"] == 4
    assert len(Path(search["args"]["data"]["train"]).read_text().splitlines()) == 20
    assert len(Path(search["args"]["data"]["test"]).read_text().splitlines()) == 40


def test_a_gain_of_less_than_a_point_meets_both_targets(tmp_path: Path):
    found = by_name(measure_set(sorting(tmp_path), tmp_path / "kept", Box(0.9, 0.895), ONE, (1,), None))
    no_loss, within = (found[f"sorting: accuracy tuned less default, {what}"] for what in ("no loss", "within a point"))
    assert (no_loss.verdict, within.verdict) == ("met", "met")
    assert "+0.0050 (-0.1000 to +0.3000)" in no_loss.note
    assert found["sorting, seed 1, tuned: accuracy"].note.startswith("trial 3: method lora, learning_rate 0.0001")


def test_a_loss_and_a_large_gain_each_miss_a_target(tmp_path: Path):
    (tmp_path / "more").mkdir()
    lost = by_name(measure_set(sorting(tmp_path), tmp_path / "kept", Box(0.8, 0.9), ONE, (1,), None))
    gained = by_name(measure_set(sorting(tmp_path / "more"), tmp_path / "others", Box(0.9, 0.8), ONE, (1,), None))
    title = "sorting: accuracy tuned less default"
    assert [lost[f"{title}, {what}"].verdict for what in ("no loss", "within a point")] == ["NOT MET", "met"]
    assert [gained[f"{title}, {what}"].verdict for what in ("no loss", "within a point")] == ["met", "NOT MET"]


def test_what_is_kept_is_not_run_again(tmp_path: Path):
    box = Box(0.9, 0.89)
    first = measure_set(sorting(tmp_path), tmp_path / "kept", box, ONE, (1, 2), 20)
    again = measure_set(tmp_path, tmp_path / "kept", box, ONE, (1, 2), 20)
    assert [one.value for one in again] == [one.value for one in first]
    assert len(box.runs) == 4
    measure_set(tmp_path, tmp_path / "kept", box, ONE, (1,), 30)
    assert len(box.runs) == 6
