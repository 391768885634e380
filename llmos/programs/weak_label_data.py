"""weak-label-data: rules vote on a dataset's unlabelled rows, and a label model makes labels of their votes.

Arguments: `data`, `rules` (a file), `models` (those of the store that the rules ask), `combine`, `least`, `name`; the
daemon's own is `reports`, where the process's result is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED
from llmos.abi.weak_labels import DAWID_SKENE, ENDPOINTS, WEAK_LABEL, answers_name
from llmos.data.byte_source import open_bytes
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.dataset_writer import DatasetWriter, WrittenDataset
from llmos.data.datasets.row_table import EVERY
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.answers import with_label
from llmos.data.weak_labels.label_model import Floats, Votes, fit_dawid_skene, has_vote, majority
from llmos.data.weak_labels.reading import check_labels, read_rules
from llmos.data.weak_labels.rules import EndpointRule, RuleFile, labels_of
from llmos.data.weak_labels.summary import summarize
from llmos.data.weak_labels.time_limit import interruptible
from llmos.data.weak_labels.voters import ColumnVoter, Voter, light_voter
from llmos.data.weak_labels.weak_report import WeakReport
from llmos.data.yaml_source import MAX_BYTES
from llmos.evaluation.calibration import temper
from llmos.evaluation.weak_check import WeakCheck, check_weak_labels
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, keep_result, reader_of, rows_of, size_of
from llmos.programs.dataset_version import offer_child

CHECKED = ("train", "validation")  # the splits whose labels the rules are held against; test rows only without these
TIE = 1e-9  # two labels nearer than this are equally likely
DIGITS = 4  # of a probability that is kept with a row
Stored = StoredRow[Any]  # Any: a row of the task's family


@dataclass(frozen=True, slots=True, eq=False)
class WeakVotes:
    """The votes of all rules on the unlabelled rows and on labelled ones, both [rows, rules]; and the latter's true
    labels, -1 for one that the rules do not know."""

    labels: tuple[str, ...]
    votes: Votes
    checked: Votes
    true: tuple[int, ...]
    split: str
    strays: dict[str, Counter[str]]


def main(channel: Channel, job: Job) -> None:
    """Let every rule vote, fit the label model, check it on labelled rows, and write the rows with their labels."""
    ref = str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    rules = rules_of(job)
    labels = _labels(rules, manifest.labels)
    try:
        with interruptible():
            votes = _vote(channel, job, reader, rules, labels)
        probabilities, check = _combine(str(job.args.get("combine") or DAWID_SKENE), votes)
        written, counts, given = _write(channel, job, reader, rules, votes, probabilities)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    report = WeakReport(rules, labels, summarize(votes.votes, probabilities), [one.plain() for one in check.rules])
    notes = [*report.notes(), *_stray_notes(votes.strays)]
    found: dict[str, Json] = {
        "dataset": ref,
        "rules_file": rules.file,
        "combine": str(job.args.get("combine") or DAWID_SKENE),
        "labels": list(labels),
        "rows": len(votes.votes),
        **counts,
        "rules": report.rules(),
        "given": given,
        "check": {"split": votes.split, **check.plain()},
        "notes": notes,
    }
    operation = {"operation": "weak-label", **{key: found[key] for key in KEPT}, "check": found["check"]}
    endpoints = [one for one in rules.rules if isinstance(one, EndpointRule)]
    operation[ENDPOINTS] = sorted({answers_name(one.url, one.model) for one in endpoints})
    said = _say(found, check)
    made = offer_child(channel, job, written, manifest, operation, notes=[said])
    keep_result(job, {**found, "made": made})
    for note in notes:
        print(note, flush=True)
    finish(channel, made, written, said)


KEPT = ("rules_file", "combine", "labels", "rows", "labelled", "no_vote", "undecided", "unsure", "rules")


def rules_of(job: Job) -> RuleFile:
    """The rules of the file that the job names; BadInput if they are not what a file of rules is."""
    path = Path(str(job.args["rules"]))
    with open_bytes(path) as file:
        text = file.read(MAX_BYTES + 1)
    try:
        return read_rules(text.decode("utf-8-sig"), path.name)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path.name} is not UTF-8. Save it as UTF-8", file=path.name) from error


def _labels(rules: RuleFile, known: Sequence[str]) -> tuple[str, ...]:
    """The labels that rows may get: those of the file, else of the dataset, else all that the rules name."""
    labels = rules.labels or tuple(known) or tuple(sorted({one for rule in rules.rules for one in labels_of(rule)}))
    if len(labels) < 2:
        raise BadInput(
            f"{rules.file} knows {len(labels)} label, and rows are told apart by two at least. Add rules for others, "
            "or name them under labels:",
            file=rules.file,
        )
    check_labels(rules, labels)
    return labels


def _vote(channel: Channel, job: Job, reader: DatasetReader, rules: RuleFile, labels: tuple[str, ...]) -> WeakVotes:
    numbers = {label: number for number, label in enumerate(labels)}
    splits = [split for split in CHECKED if split in reader.splits]
    splits = splits or [split for split in reader.splits if split == "test"]
    rows: dict[str, list[list[int]]] = {UNLABELLED: [], "checked": []}
    true: list[int] = []
    on_rows = counter(channel, "vote", size_of(job, reader.ref))
    with _voters(channel, job, rules, numbers) as voters:
        for split in (*splits, UNLABELLED):
            for block in _blocks(_to_check(reader.rows(split), split)):
                columns = [voter.votes(block) for voter in voters]
                rows[UNLABELLED if split == UNLABELLED else "checked"] += map(list, zip(*columns, strict=True))
                if split != UNLABELLED:
                    true += [numbers.get(one.row.labels[0], -1) for one in block]
                on_rows(len(block))
    asked = zip(rules.rules, voters, strict=True)
    strays = {rule.name: one.strays for rule, one in asked if isinstance(one, ColumnVoter)}
    made, checked = (np.array(some, np.int32).reshape(-1, len(voters)) for some in rows.values())
    if not has_vote(made).any():
        raise BadInput(
            f"No rule of {rules.file} votes on any of the {len(made):,} unlabelled rows of {reader.ref}. Read some "
            f"(llmos data export {reader.ref} --split unlabelled --format csv --out rows.csv), and write rules for "
            "words that they have",
            file=rules.file,
            dataset=reader.ref,
            reason="no_votes",
        )
    return WeakVotes(labels, made, checked, tuple(true), " and ".join(splits), strays)


def _to_check(rows: Iterator[Stored], split: str) -> Iterator[Stored]:
    """Of a labelled split, the rows whose label is not by rules itself; of unlabelled rows all."""
    return (one for one in rows if split == UNLABELLED or WEAK_LABEL not in one.extra)


@contextmanager
def _voters(channel: Channel, job: Job, rules: RuleFile, numbers: dict[str, int]) -> Iterator[list[Voter]]:
    """The voters in the order of the rules."""
    with ExitStack() as stack:
        asking: dict[str, Voter] = {}
        if rules.models:
            from llmos.programs.model_voters import model_voters  # imports torch, only if a rule asks a model

            asking |= stack.enter_context(model_voters(channel, job, rules, numbers))
        for rule in rules.rules:
            if isinstance(rule, EndpointRule):
                from llmos.programs.endpoint_voter import endpoint_voter  # imports httpx, only if a rule asks a server

                where = f"{rules.file}, line {rule.line}"
                voter = endpoint_voter(channel, job, rule, numbers, where)
                stack.enter_context(voter.client)
                asking[rule.name] = voter
        yield [asking.get(rule.name) or light_voter(rule, numbers, rules.file) for rule in rules.rules]


def _blocks(rows: Iterator[Stored]) -> Iterator[list[Stored]]:
    block: list[Stored] = []
    for one in rows:
        block.append(one)
        if len(block) == EVERY:
            yield block
            block = []
    if block:
        yield block


def _combine(how: str, votes: WeakVotes) -> tuple[Floats, WeakCheck]:
    """How likely each label is for each unlabelled row; calibrated, where labelled rows show that it needs to be."""
    count = len(votes.labels)
    if how == DAWID_SKENE:
        model = fit_dawid_skene(votes.votes, count)
        made, checked = model.probabilities(votes.votes), model.probabilities(votes.checked)
    else:
        made, checked = majority(votes.votes, count), majority(votes.checked, count)
    check = check_weak_labels(votes.checked, votes.true, checked)
    return temper(made, check.used_temperature), check


def _write(
    channel: Channel, job: Job, reader: DatasetReader, rules: RuleFile, votes: WeakVotes, probabilities: Floats
) -> tuple[WrittenDataset, dict[str, int], dict[str, int]]:
    """Write all rows; unlabelled ones with a label by the rules become training rows, and say what was voted.

    Also returns the rows by what became of them, and the labelled ones by their label.
    """
    least = float(job.args.get("least") or 0.0)
    names = [rule.name for rule in rules.rules]
    counts = dict.fromkeys(("labelled", "no_vote", "undecided", "unsure"), 0)
    given = dict.fromkeys(votes.labels, 0)
    on_rows = counter(channel, "write", size_of(job, reader.ref))
    at = 0
    with DatasetWriter(Path(job.scratch) / "dataset", reader.task, options=reader.options) as writer:
        for number, (split, stored) in enumerate(rows_of(reader)):
            if number % EVERY == EVERY - 1:
                on_rows(EVERY)
            if split != UNLABELLED:
                writer.add(split, stored)
                continue
            fate = _fate(votes.votes[at], probabilities[at], least)
            counts[fate] += 1
            if fate == "labelled":
                made = _give_label(stored, votes.labels, names, votes.votes[at], probabilities[at])
                given[made.row.labels[0]] += 1
                writer.add("train", made)
            else:
                writer.add(UNLABELLED, stored)
            at += 1
        if not counts["labelled"]:
            raise BadInput(
                f"No row is labelled: {counts['no_vote']:,} have no vote, {counts['undecided']:,} a tie, and "
                f"{counts['unsure']:,} are less sure than {least:g}. Write more rules, or ask for a smaller --least",
                key="least",
                value=least,
            )
        return writer.finish(), counts, given


def _fate(votes: Votes, probabilities: Floats, least: float) -> str:
    if not (votes >= 0).any():
        return "no_vote"
    second, first = np.partition(probabilities, -2)[-2:]
    if first - second < TIE:
        return "undecided"
    return "labelled" if first >= least else "unsure"


def _give_label(
    stored: Stored, labels: Sequence[str], names: Sequence[str], votes: Votes, probabilities: Floats
) -> Stored:
    """The row with its likeliest label, all probabilities and who voted for what."""
    best = int(probabilities.argmax())
    said = {names[i]: labels[int(vote)] for i, vote in enumerate(votes) if vote >= 0}
    shares = {label: round(float(share), DIGITS) for label, share in zip(labels, probabilities, strict=True)}
    kept: dict[str, Json] = {"probability": shares[labels[best]], "probabilities": shares, "votes": said}
    return replace(stored, row=with_label(stored.row, labels[best]), extra={**stored.extra, WEAK_LABEL: kept})


def _stray_notes(strays: dict[str, Counter[str]]) -> list[str]:
    return [
        f"{name}: {sum(some.values()):,} rows have a value that is no label, such as {next(iter(some))!r}"
        for name, some in strays.items()
        if some
    ]


def _say(found: dict[str, Json], check: WeakCheck) -> str:
    """One sentence of how many rows have a label now, and how right such labels are."""
    left = [f"{found[key]:,} {what}" for key, what in LEFT if found[key]]
    said = f"{found['labelled']:,} of {found['rows']:,} unlabelled rows have a label by {len(found['rules'])} rules"
    said += f" ({', '.join(left)})" if left else ""
    plain = check.covered.plain()
    if plain["accuracy"] is None:
        return f"{said}. No labelled row says how right they are"
    return (
        f"{said}. On {plain['rows']:,} labelled rows {plain['accuracy']:.3f} are right ({plain['low']:.3f} to "
        f"{plain['high']:.3f})"
    )


LEFT = (("no_vote", "without a vote"), ("undecided", "with a tie"), ("unsure", "not sure enough"))
