"""The bench of asking: the oracle answers what is asked, at each share a model is trained, and kept results stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.few_labels import FewSet
from bench.label_oracle import Oracle, measure_oracle, open_oracle, oracle_sets
from bench.record import Figure
from bench.stop import Stop

ONE = FewSet("sorting", "classify", "train.csv", "train.csv", 0.8, share=0.1)
SHARES = (0.2, 0.4)


def sorting(folder: Path, rows: int = 50) -> Path:
    lines = [f"number {i},{'fruit' if i % 2 else 'metal'}" for i in range(rows)]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines]))
    return folder


class Box:
    """A daemon with one dataset a name, whose processes end at once; accuracy grows with the labels."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}  # without labels, by dataset
        self.labelled: dict[str, int] = {}
        self.learned: dict[str, list[int]] = {}  # labels of each training, by dataset
        self.given: dict[str, str] = {}
        self.results: dict[int, Any] = {}
        self.trained: dict[str, int] = {}  # version -> labels
        self.pid = 0
        self.queues: list[Any] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        place = urlsplit(path)
        parts = place.path.split("/")[2:]
        if parts[0] == "datasets":
            return self._datasets(parts[1:], place.query, body)
        if parts[0] == "models":
            return self._version(self.trained[parts[1]])
        if method == "POST" and len(parts) == 1:
            return self._start(body)
        if parts[-1] == "result":
            return self.results[int(parts[1])]
        return self._process(int(parts[1]))

    def _start(self, body: Any) -> Any:
        args = body["args"]
        if body["program"] == "train":
            return {"pid": self._train(args["name"], len(Path(args["data"]["train"]).read_text().splitlines()))}
        lines = Path(args["data"]["unlabelled"]).read_text().splitlines()
        self.rows[args["name"]] = [json.loads(line)["text"] for line in lines]
        self.labelled[args["name"]] = len(Path(args["data"]["train"]).read_text().splitlines())
        self.learned[args["name"]] = [0]
        return {"pid": self._next()}

    def _datasets(self, parts: list[str], query: str, body: Any) -> Any:
        if not parts:
            return {"data": [{"name": name} for name in self.rows]}
        name, what = parts
        if what == "queue":
            pid, n = self._next(), body["n"]
            self.queues.append(body)
            self.results[pid] = {"rows": [{"id": text, "text": f"{text}\n"} for text in self.rows[name][:n]]}
            return {"pid": pid}
        if what == "label":
            answers = [json.loads(line) for line in Path(body["answers"]).read_text().splitlines()]
            self.given |= {one["id"]: one["value"] for one in answers}
            self.rows[name] = self.rows[name][len(answers) :]
            self.labelled[name] += len(answers)
            if self.labelled[name] >= self.learned[name][-1] + body["retrain"]:
                self.learned[name].append(self.labelled[name])
                self._train(body["model"], self.labelled[name])
            return {"pid": self._next()}
        assert parse_qs(query)["model"] == [f"{name}-model"]
        last = {"pid": self.pid, "state": "exited", "labelled": self.learned[name][-1]}
        return {"labelled": self.labelled[name], "training": last}

    def _train(self, name: str, labels: int) -> int:
        self.made = f"{name}:{len(self.trained) + 1}"
        self.trained[self.made] = labels
        return self._next()

    def _next(self) -> int:
        self.pid += 1
        return self.pid

    def _process(self, pid: int) -> Any:
        made = ["rows@1", *([self.made] if self.trained else [])]
        return {"pid": pid, "state": "exited", "exit_code": 0, "made": made, "usage": {"cpu_s": 3.0}}

    def _version(self, labels: int) -> Any:
        value = 0.9 - 1 / labels
        evidence = {"metrics": {"accuracy": value}, "intervals": {"accuracy": {"low": 0.5, "high": 0.95}}}
        return {"evidence": evidence, "lineage": {"recipe": {"method": "head"}}}


def opened(folder: Path, box: Box) -> Oracle:
    return open_oracle(sorting(folder), folder / "kept", box, ONE, 1, method="head")


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {one.name: one for one in figures}


def test_the_true_labels_are_given_and_a_model_is_trained_at_each_share(tmp_path: Path):
    box = Box()
    found = by_name(measure_oracle(opened(tmp_path, box), SHARES))
    assert all(label == ("fruit" if int(text.split()[1]) % 2 else "metal") for text, label in box.given.items())
    assert {name: learned[1:] for name, learned in box.learned.items()} == {
        "oracle-sorting-1-head-quick-margin": [10, 20],
        "oracle-sorting-1-head-quick-random": [10, 20],
    }
    assert {one["strategy"] for one in box.queues} == {"margin", "random"}
    assert found["sorting, seed 1, all labels: accuracy, 50 of 50 labels"].value == pytest.approx(0.9 - 1 / 50)
    share = found["sorting, seed 1, margin: share of the labels for 0.02 less"]
    assert share.verdict == "NOT MET"
    assert share.value != share.value, "no share was enough"
    assert found["sorting, seed 1, random: share of the labels for 0.02 less"].verdict == ""


def test_the_least_share_that_is_enough_is_held_against_the_target(tmp_path: Path):
    found = by_name(measure_oracle(opened(tmp_path, Box()), (0.2, 0.4, 0.8)))
    share = found["sorting, seed 1, margin: share of the labels for 0.02 less"]
    assert (share.value, share.verdict) == (0.8, "NOT MET")


def test_kept_results_are_not_made_again(tmp_path: Path):
    box = Box()
    first = measure_oracle(opened(tmp_path, box), SHARES)
    before = box.pid
    assert [one.value for one in measure_oracle(opened(tmp_path, box), SHARES)][:-2] == [one.value for one in first][
        :-2
    ]
    assert box.pid == before


def test_sets_of_texts_with_one_label_alone_are_taken():
    assert [one.name for one in oracle_sets(None)] == ["banking77"]
    assert [one.name for one in oracle_sets("sst2,agnews")] == ["sst2", "agnews"]
    for names in ("conll2003", "", "nosuch"):
        with pytest.raises(Stop):
            oracle_sets(names)
