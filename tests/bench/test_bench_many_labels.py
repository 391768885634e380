"""The bench of many labels: what a sentence is about, and the seconds of a training on few rows of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.many_labels import draw_about, entities_of, measure_many
from bench.stop import Stop

PLACES = ("Rome", "New York", "Lima")


def sentence(place: str, i: int) -> tuple[list[str], list[str]]:
    words = place.split()
    return [*words, "is", "far", str(i)], ["B-LOC", *("I-LOC" for _ in words[1:]), "O", "O", "O"]


SENTENCES = [sentence(place, i) for place in PLACES for i in range(4)]


def news(folder: Path) -> Path:
    lines = ["\n".join(f"{w} {t}" for w, t in zip(words, tags, strict=True)) for words, tags in SENTENCES]
    (folder / "eng.train").write_text("\n\n".join(lines) + "\n")
    return folder


def test_an_entity_is_all_its_words_and_neighbours_are_two():
    assert entities_of(["New", "York", "Rome", "far"], ["B-LOC", "I-LOC", "B-LOC", "O"]) == {"new york", "rome"}


def test_every_label_has_as_many_texts_that_name_it_alone():
    both = (["Rome", "and", "Lima"], ["B-LOC", "O", "B-LOC"])
    rows = draw_about([*SENTENCES, both, *SENTENCES], labels=3, each=3, seed=1)
    assert len(rows) == len(set(rows)) == 9
    assert all(label in text.lower() for text, label in rows)
    assert "Rome and Lima" not in {text for text, _ in rows}
    assert rows == draw_about([*SENTENCES, both, *SENTENCES], labels=3, each=3, seed=1)
    assert rows != draw_about([*SENTENCES, both, *SENTENCES], labels=3, each=3, seed=2)


def test_too_few_entities_stop_the_bench():
    with pytest.raises(Stop):
        draw_about(SENTENCES, labels=4, each=3, seed=1)


def test_the_seconds_are_held_against_the_target_and_kept(tmp_path: Path):
    trained: list[Any] = []

    class Box:
        def ask(self, method: str, path: str, body: Any = None) -> Any:
            if (method, path) == ("GET", "/v1/processes"):
                return {"data": []}
            if method == "POST":
                trained.append(body["args"])
                return {"pid": 1}
            if path.startswith("/v1/processes"):
                ended = {"state": "exited", "exit_code": 0, "made": ["rows@1", "few:1"]}
                return {"pid": 1, "usage": {"cpu_s": 3.0}, **ended}
            evidence = {"metrics": {"accuracy": 0.5}, "intervals": {"accuracy": {"low": 0.25, "high": 0.75}}}
            return {"evidence": evidence, "lineage": {"recipe": {"method": "lora"}}}

    first = measure_many(news(tmp_path), tmp_path / "kept", Box(), (1,), labels=3, each=2)
    again = measure_many(tmp_path, tmp_path / "kept", Box(), (1,), labels=3, each=2)
    assert first == again
    assert len(trained) == 1
    assert set(trained[0]) == {"task", "name", "base", "data", "seed"}
    assert (first[0].verdict, first[0].unit) == ("met", "s")
    assert first[1].value == 0.5
