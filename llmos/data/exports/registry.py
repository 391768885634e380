"""All exports by name, and the check that one can carry a dataset's rows."""

from __future__ import annotations

from llmos.abi.error import BadInput
from llmos.abi.objective import FORMS, PAIRED, PLAIN, takes_preferences
from llmos.abi.task import Family, spec_of, tasks_in
from llmos.data.exports import objects, saved_dataset, squad, tables, words
from llmos.data.exports.export import Export, ExportedDataset
from llmos.data.families.text import shape_of

LABELS, TAGS, SPANS, PAIRS, TEXT = (frozenset({one}) for one in Family if one is not Family.VECTORS)
ALL = LABELS | TAGS | SPANS | PAIRS | TEXT
MARKED = LABELS | TAGS
TABLES = LABELS | PAIRS | TEXT
CHATS = frozenset(task for task in tasks_in(Family.TEXT) if shape_of(task).learns_talks)
PROMPTED = frozenset(task for task in tasks_in(Family.TEXT) if shape_of(task).finds_talks)
PREFERRED = frozenset(task for task in tasks_in(Family.TEXT) if takes_preferences(task))
PAIRS_AND_SINGLES = frozenset(FORMS)
NO_COLUMNS = "ids and other columns"
NO_PARTS = "of tags the texts between words, and spans that part a word"
NO_CHARACTERS = "other columns, texts between words, and spans that part a word"

EXPORTS = {
    one.name: one
    for one in (
        Export("jsonl", "jsonl", ALL, objects.json_lines(objects.plain), has_cells=True),
        Export("json", "json", ALL, objects.json_list(objects.plain), has_cells=True),
        Export("csv", "csv", TABLES, tables.write_delimited(","), has_cells=True),
        Export("tsv", "tsv", TABLES, tables.write_delimited("\t"), has_cells=True),
        Export("parquet", "parquet", ALL, tables.write_parquet, NO_PARTS, has_cells=True),
        Export("arrow", "arrow", ALL, tables.write_arrow, NO_PARTS, has_cells=True),
        Export("saved-dataset", "zip", ALL, saved_dataset.write_saved_dataset, NO_PARTS),
        Export("sqlite", "db", TABLES, tables.write_sqlite, has_cells=True),
        Export("one-hot", "csv", LABELS, tables.write_one_hot, NO_COLUMNS),
        Export("fasttext", "txt", LABELS, tables.write_fasttext, f"{NO_COLUMNS}, line ends and runs of spaces"),
        Export("conll", "conll", TAGS, words.write_conll, f"ids, {NO_CHARACTERS}"),
        Export("conllu", "conllu", TAGS, words.write_conllu, NO_CHARACTERS),
        Export("label-studio", "json", MARKED, objects.json_list(objects.label_studio)),
        Export("doccano", "jsonl", MARKED, objects.json_lines(objects.doccano)),
        Export("spacy", "json", MARKED, objects.json_list(objects.spacy), NO_COLUMNS),
        Export("prodigy", "jsonl", MARKED, objects.json_lines(objects.prodigy)),
        Export("argilla", "json", LABELS, objects.json_list(objects.argilla)),
        Export("squad", "json", SPANS, squad.write_squad, "other columns"),
        Export(
            "prompt-completion", "jsonl", TEXT, objects.json_lines(objects.prompt_completion), tasks=PROMPTED - CHATS
        ),
        Export(
            "preference",
            "jsonl",
            TEXT,
            objects.json_lines(objects.preference),
            NO_COLUMNS,
            PREFERRED,
            forms=PAIRS_AND_SINGLES,
        ),
        Export(
            "openai-preference",
            "jsonl",
            TEXT,
            objects.json_lines(objects.openai_preference),
            NO_COLUMNS,
            PREFERRED,
            forms=frozenset({PAIRED}),
        ),
        Export("alpaca", "json", TEXT, objects.json_list(objects.alpaca), NO_COLUMNS, tasks=PROMPTED),
        Export("openai", "jsonl", TEXT, objects.json_lines(objects.openai), NO_COLUMNS, tasks=CHATS),
        Export("sharegpt", "json", TEXT, objects.json_list(objects.sharegpt), "other columns", tasks=CHATS),
        Export(
            "translation",
            "jsonl",
            TEXT,
            objects.json_lines(objects.translation),
            "other columns",
            tasks=frozenset({"translate"}),
        ),
    )
}


def exports_of(task: str, form: str = PLAIN) -> list[str]:
    """The names of the formats that can carry rows of this task, or its preference rows of this form."""
    of_task = (
        one for one in EXPORTS.values() if spec_of(task).family in one.families and task in (one.tasks or {task})
    )
    return [one.name for one in of_task if one.carries(form)]


def export_named(name: str, dataset: ExportedDataset, *, is_labelled: bool = True) -> Export:
    """The export of this name; BadInput where there is none, or it cannot carry these rows."""
    able = [one for one in exports_of(dataset.task, dataset.form) if is_labelled or EXPORTS[one].has_cells]
    if name not in able:
        what = "cannot carry rows of" if name in EXPORTS else "is no format that is exported, for"
        rows = "" if dataset.form == PLAIN else f" with {dataset.form} preferences"
        without = "" if is_labelled else " without labels"
        raise BadInput(
            f"{name[:40]!r} {what} {dataset.task}{without}{rows}. Formats for it: {', '.join(able)}",
            key="format",
            value=name[:40],
            expected=able,
        )
    if dataset.scheme not in words.SCHEMES:
        raise BadInput(f"The scheme {dataset.scheme[:40]!r} is not known. It is iob2 or bioes", key="scheme")
    return EXPORTS[name]
