"""Rows as annotation tools nest them, as plain rows: those of Label Studio, spaCy, Prodigy and Argilla."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from llmos.abi.json_type import Json

RESPONSES = ".responses"  # the end of a column with all answers to one question
SURE = 0.5  # of the scores that spaCy gives to the categories of a text


def is_example(value: Json) -> TypeGuard[list[Json]]:
    """Whether a list is an example of spaCy: a text and an object of what is marked in it."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
        and bool(value[1].keys() & {"entities", "cats", "spans"})
    )


def plain_example(example: list[Json]) -> dict[str, Json]:
    """The row of spaCy's example."""
    text, marked = example
    return dict(plain_row({"text": text, **marked}))


def plain_row(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """The row with its text and what is marked as fields of its own; any other row as it is."""
    if isinstance(row.get("data"), dict) and isinstance(row.get("annotations", row.get("completions")), list):
        return _label_studio(row)
    if isinstance(row.get("fields"), dict) and _is_responses(row.get("responses")):
        return _argilla(row)
    if "_server_id" in row and "status" in row and "fields" not in row:
        return _flat_argilla(row)
    if isinstance(row.get("cats"), dict):
        chosen = [label for label, score in row["cats"].items() if isinstance(score, (int, float)) and score >= SURE]
        return {**{key: value for key, value in row.items() if key != "cats"}, "label": chosen}
    if isinstance(row.get("options"), list) and isinstance(row.get("accept"), list):
        rest = {key: value for key, value in row.items() if key not in ("options", "accept", "config")}
        return {**rest, "label": row["accept"]}
    return row


def _label_studio(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """A task of Label Studio by its first annotation that was not cancelled; cancelled itself where there is none."""
    done = [one for one in row.get("annotations", row.get("completions")) if isinstance(one, dict)]
    valid = [one for one in done if not one.get("was_cancelled")]
    rest = {key: value for key, value in row.items() if key not in ("data", "annotations", "completions")}
    plain = {**row["data"], **rest, "was_cancelled": bool(done) and not valid}
    values = [_value(one) for one in (valid[0].get("result") or [] if valid else [])]
    spans = [value for value in values if "start" in value and "end" in value]
    choices = [choice for value in values for choice in value.get("choices", ())]
    if choices:
        plain["label"] = choices
    if spans:
        plain["spans"] = spans
    if len(valid) > 1:
        plain["further_annotations"] = valid[1:]
    return plain


def _value(result: Json) -> dict[str, Json]:
    value = result.get("value") if isinstance(result, dict) else None
    return value if isinstance(value, dict) else {}


def _argilla(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """A record of Argilla: its fields, and under the name of each question what was answered to it first.

    Suggestions are no answers. A record without an answer is pending, or discarded if all of its responses are.
    """
    responses = row["responses"]
    answers = _by_question(responses) if isinstance(responses, dict) else _by_person(responses)
    statuses = (
        {one.get("status") for one in responses if isinstance(one, dict)} if isinstance(responses, list) else set()
    )
    unanswered = "discarded" if "discarded" in (*statuses, row.get("status")) else "pending"
    rest = {key: value for key, value in row.items() if key not in ("fields", "responses")}
    first = {
        f"{name}.response" if name in row["fields"] else name: values[0] for name, values in answers.items()
    }  # a question may have the name of a field, which it must not replace
    plain = {**rest, **row["fields"], **first, "status": "submitted" if first else unanswered}
    if further := {name: values[1:] for name, values in answers.items() if len(values) > 1}:
        plain["further_responses"] = further
    return plain


def _flat_argilla(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """A record as Argilla 2 flattens it: the answers to a question under `NAME.responses`, their states beside."""
    answers: dict[str, Json] = {}
    is_discarded = False
    taken = set()
    for key in (key for key, value in row.items() if key.endswith(RESPONSES) and isinstance(value, list)):
        name, states = key.removesuffix(RESPONSES), row.get(f"{key}.status") or []
        valid = [one for i, one in enumerate(row[key]) if states[i : i + 1] in ([], [None], ["submitted"])]
        is_discarded |= "discarded" in states
        if valid:
            answers[f"{name}.response" if name in row else name] = valid[0]
        if len(valid) <= 1:
            taken.add(key)  # more than one answer: all are kept beside the row
    rest = {key: value for key, value in row.items() if key not in taken}
    unanswered = "discarded" if is_discarded else "pending"
    return {**rest, **answers, "status": "submitted" if answers else unanswered}


def _is_responses(value: Json) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(one, dict) for one in value))


def _by_question(responses: Mapping[str, Json]) -> dict[str, list[Json]]:
    """The answers that count, as Argilla 2 has them: a list of responses by question."""
    valid = {
        name: [one["value"] for one in given if isinstance(one, dict) and _is_valid(one) and "value" in one]
        for name, given in responses.items()
        if isinstance(given, list)
    }
    return {name: values for name, values in valid.items() if values}


def _by_person(responses: list[Json]) -> dict[str, list[Json]]:
    """The answers that count, as Argilla 1 has them: values by question in the response of each person."""
    answers: dict[str, list[Json]] = {}
    for one in responses:
        values = one.get("values") if isinstance(one, dict) and _is_valid(one) else None
        for name, answer in values.items() if isinstance(values, dict) else ():
            answers.setdefault(name, []).append(answer.get("value") if isinstance(answer, dict) else answer)
    return answers


def _is_valid(response: Mapping[str, Json]) -> bool:
    return response.get("status") in (None, "submitted")
