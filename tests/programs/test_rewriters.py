"""Texts said anew by models: how they are asked, which answers count, and that a dataset is augmented by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_dataset_programs import Shop, tickets

from llmos.abi.call import Call, Chunk
from llmos.abi.error import BadInput, TooLong, fault_of
from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.data.augmentation.added import UNCHANGED
from llmos.programs import augment_data
from llmos.programs.rewriters import ORDER, BackTranslator, Paraphraser, WritingModel
from llmos.testing.errors import fails_with


class Scripted:
    """An engine that answers by a function; the last call that was added is answered first."""

    def __init__(self, answer: Callable[[Call], Json]) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.waiting: list[Call] = []

    def add(self, call: Call) -> None:
        if len(str(call.inputs[0])) > 2000:
            raise TooLong("too long", size=2000, limit=100)
        self.calls.append(call)
        self.waiting.append(call)

    def step(self) -> list[Chunk]:
        call = self.waiting.pop()
        try:
            return [Chunk(call.call_id, (self.answer(call),))]
        except BadInput as error:
            return [Chunk(call.call_id, fault=fault_of(error))]


def model(task: str, answer: Callable[[Call], Json]) -> tuple[WritingModel, Scripted]:
    engine: Any = Scripted(answer)  # Any: as much of an engine as is asked
    return WritingModel(engine, Manifest("writer", 1, Kind.BASE, task, ())), engine


def said(text: str, reason: str = "stop") -> dict[str, Json]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": reason}


def asked(call: Call) -> str:
    return str(call.inputs[0]["messages"][-1]["content"]).removeprefix(ORDER)


def test_each_text_is_asked_with_its_own_seed_and_answered_in_order():
    writer, engine = model("chat", lambda call: said(f"Please {asked(call)}"))
    assert Paraphraser(writer).rewrite(["send my card", "close this account"], [3, 9]) == [
        "Please send my card",
        "Please close this account",
    ]
    assert [call.params["seed"] for call in engine.calls] == [3, 9]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("Paraphrase: When will my card be here?\nI hope this helps!", "When will my card be here?"),
        ('"When is my card coming?"', "When is my card coming?"),
        ("Your card comes on Monday.", ""),
        ("When is my card not coming?", ""),
        ("When are my 2 cards coming?", ""),
        ("How is the weather over there?", ""),
        ("When?", ""),
        ("When is my card coming, " * 5 + "?", ""),
        ("", ""),
    ],
)
def test_only_an_answer_that_can_be_a_paraphrase_counts(answer: str, kept: str):
    writer, _ = model("chat", lambda call: said(answer))
    assert Paraphraser(writer).rewrite(["When does my card come?"], [1]) == [kept]


def test_a_text_that_is_too_long_or_an_answer_without_an_end_leaves_the_text_alone():
    writer, _ = model("chat", lambda call: said(asked(call) + " please", "length"))
    assert Paraphraser(writer).rewrite(["my card is lost", "my card " * 400], [1, 2]) == ["", ""]


def test_a_model_without_a_template_is_asked_by_a_prompt_to_continue():
    writer, engine = model("generate", lambda call: {"text": " My card is gone", "finish_reason": "stop"})
    assert Paraphraser(writer).rewrite(["My card is lost"], [1]) == ["My card is gone"]
    assert engine.calls[0].params["stop"] == ["\n"]
    assert "My card is lost" in engine.calls[0].inputs[0]


def test_what_a_model_refuses_for_another_reason_is_said():
    def refuse(call: Call) -> Json:
        raise BadInput("no language", key="target_language")

    writer, _ = model("translate", refuse)
    with fails_with(BadInput, key="target_language"):
        BackTranslator(writer, writer).rewrite(["my card"], [1])


def test_a_text_is_translated_there_by_chance_and_back_by_the_likeliest():
    words = {"my": "meine", "card": "Karte", "is": "ist", "lost": "verloren"}
    home = {**{new: old for old, new in words.items()}, "verloren": "lost now"}

    def by(table: dict[str, str]) -> Callable[[Call], Json]:
        return lambda call: {
            "text": " ".join(table[word] for word in str(call.inputs[0]).split()),
            "finish_reason": "stop",
        }

    there, first = model("translate", by(words))
    back, second = model("translate", by(home))
    assert BackTranslator(there, back, "German", "English").rewrite(["my card is lost"], [5]) == ["my card is lost now"]
    assert first.calls[0].params["seed"] == 5
    assert (first.calls[0].params["source_language"], first.calls[0].params["target_language"]) == ("English", "German")
    assert (second.calls[0].params["source_language"], second.calls[0].params["temperature"]) == ("German", 0.0)


def test_a_dataset_is_augmented_by_the_engine_of_a_writer(tmp_path: Path):
    """The null engine writes words of its own, of which none is a paraphrase."""
    from llmos.programs import import_data

    shop = Shop(tmp_path)
    shop.run(import_data, name="tickets", data=str(tickets(tmp_path, count=9)), task="classify")
    writer = ModelPath(Manifest("writer", 1, Kind.BASE, "chat", (), options={"tasks": ["chat"]}), str(tmp_path))
    shop.models = {"writer": writer}
    settings = {"engines": {"writer": "null"}, "token_budget": 256, "kv_bytes": 1 << 20, "writer": "writer:1"}
    made: Any = shop.run(augment_data, data="tickets@1", name="more", by="paraphrase", **settings)
    operation = made.draft["provenance"]["operation"]
    assert (operation["writer"], operation["missing"]) == ("writer:1", {UNCHANGED: 9})
