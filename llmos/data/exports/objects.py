"""Rows as JSON objects, in the ways that annotation tools and trainers of language models have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset, Write
from llmos.data.families.preferences import message_of
from llmos.data.row import LabelRow, PreferenceRow, TagRow, TextRow, UnpairedRow

ToObject = Callable[[ExportedDataset, StoredRow[Any]], Json]
GPT = {"user": "human", "assistant": "gpt", "system": "system"}
NOBODY = "00000000-0000-0000-0000-000000000000"  # who answered, which Argilla must be told


def json_lines(to_object: ToObject) -> Write:
    """Writes an object a line."""

    def write(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for stored in rows:
                out.write(json.dumps(to_object(dataset, stored), ensure_ascii=False) + "\n")

    return write


def json_list(to_object: ToObject) -> Write:
    """Writes one list of objects."""

    def write(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as out:
            before = "[\n"
            for stored in rows:
                out.write(before + json.dumps(to_object(dataset, stored), ensure_ascii=False))
                before = ",\n"
            out.write("\n]\n")

    return write


def plain(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """The columns of the row's task as they are, its id and the source's other columns."""
    row = stored.row
    if isinstance(row, TagRow):
        return {**_words_or_spans(row), **dataset.others(stored)}
    if isinstance(row, PreferenceRow | UnpairedRow):
        return {**preference(dataset, stored), **dataset.others(stored)}
    if isinstance(row, TextRow) and "messages" in row.input:
        return {**openai(dataset, stored), **dataset.others(stored)}
    return {**dataset.cells(stored), **dataset.others(stored)}


def label_studio(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """A task with one annotation."""
    row = stored.row
    if isinstance(row, TagRow):
        text, spans = text_and_spans(row)
        result = [
            {
                "from_name": "label",
                "to_name": "text",
                "type": "labels",
                "value": {"start": start, "end": end, "text": text[start:end], "labels": [label]},
            }
            for start, end, label in spans
        ]
    else:
        text, labels = row.input["text"], list(row.labels)
        result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": labels}}]
    return {"data": {"text": text, **dataset.others(stored)}, "annotations": [{"result": result}]}


def doccano(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """A line of doccano: a text, and its labels as a list of names or of [start, end, label]."""
    row = stored.row
    if isinstance(row, TagRow):
        text, spans = text_and_spans(row)
        return {"text": text, "label": [list(span) for span in spans], **dataset.others(stored)}
    return {"text": row.input["text"], "label": list(row.labels), **dataset.others(stored)}


def spacy(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """An example as spaCy's training data had it: a text with its entities or categories."""
    row = stored.row
    if isinstance(row, TagRow):
        text, spans = text_and_spans(row)
        return [text, {"entities": [list(span) for span in spans]}]
    return [row.input["text"], {"cats": {label: float(label in row.labels) for label in dataset.labels}}]


def prodigy(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """An accepted example of Prodigy."""
    row = stored.row
    if isinstance(row, TagRow):
        text, spans = text_and_spans(row)
        marked: dict[str, Json] = {"spans": [{"start": s, "end": e, "label": label} for s, e, label in spans]}
    else:
        text = row.input["text"]
        options = [{"id": label, "text": label} for label in dataset.labels]
        marked = {"options": options, "accept": list(row.labels)}
    return {"text": text, **marked, "answer": "accept", "meta": dataset.others(stored)}


def argilla(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """A record of Argilla 2 with one submitted response."""
    row: LabelRow = stored.row
    value = list(row.labels) if dataset.is_multi else row.labels[0]
    response = {"value": value, "user_id": NOBODY, "status": "submitted"}
    return {
        "id": stored.id,
        "fields": {"text": row.input["text"]},
        "metadata": {name: one for name, one in dataset.others(stored).items() if name != "id"},
        "responses": {"label": [response]},
        "status": "completed",
    }


def alpaca(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """An instruction and its output; a conversation of one question and its answer, with its system prompt."""
    system, question, answer = _one_exchange(dataset, stored)
    said = {"system": system} if system else {}
    return {**said, "instruction": question, "input": "", "output": answer}


def prompt_completion(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """Hugging Face's prompt and completion."""
    row: TextRow = stored.row
    return {"prompt": row.prompt, "completion": row.answer, **dataset.others(stored)}


def preference(dataset: ExportedDataset, stored: StoredRow[Any]) -> dict[str, Json]:
    """Hugging Face's preferences: prompt, chosen and rejected, or prompt, completion and label; messages of a chat."""
    row: TextRow = stored.row
    if "messages" not in row.input:
        return dataset.cells(stored)
    asked: dict[str, Json] = {"prompt": list(row.input["messages"])}
    answer = [message_of(row.answer, row.message)]
    if isinstance(row, PreferenceRow):
        said: dict[str, Json] = {"chosen": answer, "rejected": [message_of(row.rejected, row.rejected_message)]}
    else:
        said = {"completion": answer, "label": isinstance(row, UnpairedRow) and row.is_good}
    return {**asked, **said, **({"tools": row.input["tools"]} if row.input.get("tools") else {})}


def openai_preference(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """OpenAI's rows for preference fine-tuning, of pairs alone."""
    row = stored.row
    if not isinstance(row, PreferenceRow):
        raise BadInput(f"Row {stored.id} is no pair of answers. Export as preference", format="openai-preference")
    talk = row.input if "messages" in row.input else {"messages": [{"role": "user", "content": row.prompt}]}
    asked = {key: value for key, value in talk.items() if key == "messages" or (key == "tools" and value)}
    return {
        "input": asked,
        "preferred_output": [message_of(row.answer, row.message)],
        "non_preferred_output": [message_of(row.rejected, row.rejected_message)],
    }


def sharegpt(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """A conversation of human and gpt."""
    messages = conversation_of(stored.row)
    for message in messages:
        if message["role"] not in GPT or message.keys() - {"role", "content"}:
            raise _too_much(stored, "sharegpt", "tools and their calls")
    turns = [{"from": GPT[one["role"]], "value": one["content"]} for one in messages]
    return {"id": stored.id, "conversations": turns}


def openai(dataset: ExportedDataset, stored: StoredRow[Any]) -> dict[str, Json]:
    """OpenAI's messages, with the tools that may be called."""
    row: TextRow = stored.row
    tools = {"tools": row.input["tools"]} if row.input.get("tools") else {}
    return {"messages": conversation_of(row), **tools}


def translation(dataset: ExportedDataset, stored: StoredRow[Any]) -> Json:
    """Hugging Face's object of languages; the first is the source's."""
    source, target = str(dataset.options.get("source") or "source"), str(dataset.options.get("target") or "target")
    row: TextRow = stored.row
    return {"id": stored.id, "translation": {source: row.prompt, target: row.answer}}


def conversation_of(row: TextRow) -> list[Json]:
    """All messages, of which the assistant's answer is the last."""
    last = row.completion if row.message else {"role": "assistant", "content": row.answer}
    return [*row.input["messages"], last]


def text_and_spans(row: TagRow) -> tuple[str, list[tuple[int, int, str]]]:
    """A text and its marked characters; of words without a text, those joined by spaces."""
    if row.text is not None:
        return row.text, list(row.spans or ())
    spans: list[tuple[int, int, str]] = []
    for (start, end), tag in zip(row.offsets, row.tags, strict=True):
        kind = tag[2:]
        if tag.startswith("I-") and spans and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], end, kind)
        elif kind:
            spans.append((start, end, kind))
    return " ".join(row.input["tokens"]), spans


def _words_or_spans(row: TagRow) -> dict[str, Json]:
    if row.text is None:
        return {"tokens": list(row.input["tokens"]), "tags": list(row.tags)}
    return {"text": row.text, "spans": [{"start": s, "end": e, "label": label} for s, e, label in row.spans or ()]}


def _one_exchange(dataset: ExportedDataset, stored: StoredRow[Any]) -> tuple[str, str, str]:
    row: TextRow = stored.row
    if "messages" not in row.input:
        return "", row.prompt, row.answer
    *before, asked = row.input["messages"]
    is_plain = asked["role"] == "user" and not row.message and not row.input.get("tools")
    if not is_plain or len(before) > 1 or any(one["role"] != "system" for one in before):
        raise _too_much(stored, "alpaca", "several turns, tools and their calls")
    return (str(before[0]["content"]) if before else ""), str(asked["content"]), row.answer


def _too_much(stored: StoredRow[Any], name: str, what: str) -> BadInput:
    return BadInput(f"Row {stored.id} has what {name} cannot say: {what}. Export as openai", format=name, id=stored.id)
