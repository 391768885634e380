"""Sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947): a teacher writes the targets of rows without any.

The teacher is a model of the store, which decodes greedily in this process, or one behind an OpenAI-shaped address.
Either's answers are kept as they come, so that a run that goes on asks for the rest alone. An answer that is empty, or
was cut at its greatest length, is left out and counted.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmos.abi.endpoint import endpoint_in
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.data.dataset import LoadedData
from llmos.data.datasets.row_ids import RowIds
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import TextRow
from llmos.evaluation.families.text_prediction import TextPrediction
from llmos.evaluation.generation_eval import LONGER, chosen_of, write_answers
from llmos.programs.channel import Channel, Stopped
from llmos.programs.endpoint_client import EndpointAnswer, KeptAnswers, endpoint_client, median_seconds
from llmos.programs.endpoint_teacher import refuse_all, rows_to_ask
from llmos.programs.teaching import Lessons, SpokenLessons, load_teacher
from llmos.tasks import Settings
from llmos.tasks import task as task_of
from llmos.tasks.instruction import messages_of

FILE = "written.jsonl"
WRITTEN_BY = "written_by"  # of a row's other columns
BATCH = 32  # rows between two looks at whether to stop
LEAST_TOKENS = 16
BYTES_A_TOKEN = 3


def ask_for_texts(channel: Channel, job: Job, recipe: Recipe, data: LoadedData) -> tuple[LoadedData, Lessons]:
    """The data with the rows that the teacher has written the targets of; BadInput where it can write none."""
    splits, bare = data.splits, rows_to_ask(job, recipe, data)
    settings = Settings(splits.labels, {**recipe.options, "truncate": True})
    places = chosen_of(len(splits.test), settings)
    rows = [*bare, *(splits.test[i] for i in places)]
    longest = [str(getattr(row, "answer", "")) for row in splits.train]
    endpoint = endpoint_in(str(recipe.teacher))
    ref = endpoint.ref if endpoint is not None else job.models["teacher"].manifest.ref
    found: list[EndpointAnswer] = []
    if endpoint is not None:
        most = _token_limit(max((len(one.encode()) for one in longest), default=0) // BYTES_A_TOKEN)
        answers = _from_endpoint(channel, job, recipe, rows, settings, most)
    else:
        writer = _Writer(channel, job, recipe, longest)
        most, answers = writer.most, writer.answers(rows)
    for one in answers:
        found.append(one)
        channel.report(Progress("teach", len(found), len(rows), "rows"))
    written = [replace(row, answer=one.text) for row, one in zip(bare, found, strict=False) if _is_usable(one)]
    if not written:
        refuse_all(ref, len(bare), "whole", found[0].refusal or found[0].text)
    answered = zip(places, found[len(bare) :], strict=True)
    tested = {place: TextPrediction(0.0, 0, one.text) for place, one in answered if not one.refusal}
    seconds = median_seconds(found)
    told = SpokenLessons(ref, len(bare), len(bare) - len(written), len(splits.train), seconds, tested, most)
    return _with_written(data, written, ref, bytes.fromhex(job.row_key)), Lessons(told=told)


def _token_limit(longest: int) -> int:
    return max(LEAST_TOKENS, LONGER * longest)


def _is_usable(answer: EndpointAnswer) -> bool:
    return answer.is_whole and bool(answer.text.strip())


def _with_written(data: LoadedData, written: Sequence[TextRow], ref: str, key: bytes) -> LoadedData:
    """The data with these rows among those to train on; their column `written_by` says by whom."""
    train = (*data.splits.train, *written)
    ids = RowIds(key).of(train)[len(data.splits.train) :]
    stored = [StoredRow(one, row, {WRITTEN_BY: ref}) for one, row in zip(ids, written, strict=True)]
    return replace(
        data,
        splits=replace(data.splits, train=train),
        stored={**data.stored, "train": (*data.stored.get("train", ()), *stored)},
    )


def _from_endpoint(
    channel: Channel, job: Job, recipe: Recipe, rows: Sequence[Any], settings: Settings, most: int
) -> Iterator[EndpointAnswer]:  # Any: rows of the text family
    endpoint = endpoint_in(str(recipe.teacher))
    assert endpoint is not None, "who calls has looked"
    asking, task = endpoint_client(job, endpoint, "teacher"), task_of(recipe.task)
    requests = []
    for row in rows:
        body: dict[str, Json] = {"model": endpoint.model, "messages": messages_of(task, row.input, settings)}
        body |= {"tools": row.input["tools"]} if row.input.get("tools") else {}
        requests.append([body | {"temperature": 0, "max_tokens": most}, body])
    with asking:
        yield from asking.ask(requests, channel, may_refuse=True)


class _Writer:
    """A model of the store that writes, a batch at a time."""

    def __init__(self, channel: Channel, job: Job, recipe: Recipe, longest: Sequence[str]) -> None:
        self.channel, self.teacher = channel, job.models["teacher"]
        evaluator = load_teacher(channel, job, recipe, self.teacher)
        self.candidate, self.task = evaluator.candidate, task_of(recipe.task)
        self.settings = replace(evaluator.settings, options={**recipe.options, **evaluator.settings.options})
        tokenizer = self.candidate.loaded.tokenizer
        encoded = tokenizer.encode(list(longest), special=False) if longest else []
        self.most = _token_limit(max((len(one.ids) for one in encoded), default=0))
        self.kept = KeptAnswers(Path(job.scratch) / FILE)
        self.kept.read()

    def answers(self, rows: Sequence[Any]) -> Iterator[EndpointAnswer]:  # Any: rows of the text family
        for start in range(0, len(rows), BATCH):
            if self.channel.stop_asked:
                raise Stopped
            part = rows[start : start + BATCH]
            digests = [self._digest(row) for row in part]
            self._write([(row, one) for row, one in zip(part, digests, strict=True) if one not in self.kept.by_digest])
            yield from (self.kept.by_digest[one] for one in digests)

    def _write(self, asked: Sequence[tuple[Any, str]]) -> None:  # Any: as above
        if not asked:
            return
        tokenizer = self.candidate.loaded.tokenizer
        prompts = [self.task.render([row.input], tokenizer, self.settings)[0] for row, _ in asked]
        began = time.monotonic()
        written = write_answers(self.candidate, prompts, self.most)
        seconds = round((time.monotonic() - began) / len(asked), 4)
        for (_, digest), one in zip(asked, written, strict=True):
            self.kept.add(digest, EndpointAnswer(one.text, None, (), seconds, one.is_whole))

    def _digest(self, row: Any) -> str:  # Any: as above
        """Of the teacher's files, how long it may write, and the input: what an answer follows from."""
        manifest = self.teacher.manifest
        seen = hashlib.sha256(f"{manifest.ref} {manifest.base_digest} {self.most}".encode())
        for file in manifest.files:
            seen.update(file.digest.encode())
        seen.update(repr(sorted(row.input.items())).encode())
        return seen.hexdigest()
