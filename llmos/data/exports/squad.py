"""Questions as SQuAD 2 has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.row import SpanRow


def write_squad(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """A topic for each passage; questions about it that follow one another stand together."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write('{"version": "v2.0", "data": [')
        before = "\n"
        for passage, questions in groupby(rows, lambda stored: stored.row.input["passage"]):
            paragraph = {"context": passage, "qas": [_question(stored) for stored in questions]}
            out.write(before + json.dumps({"title": "", "paragraphs": [paragraph]}, ensure_ascii=False))
            before = ",\n"
        out.write("\n]}\n")


def _question(stored: StoredRow[Any]) -> dict[str, Any]:  # Any: text, list or truth
    row: SpanRow = stored.row
    answers = [{"text": text, "answer_start": at} for text, at in zip(row.answers, row.starts, strict=True)]
    return {
        "id": stored.id,
        "question": row.input["question"],
        "answers": answers,
        "is_impossible": not answers,
    }
