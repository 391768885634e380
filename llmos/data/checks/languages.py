"""Languages: rows in another language than most rows (py3langid; extra `lang`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity
from llmos.data.checks.subject import Stored, Subject, show_row

KIND = "languages"
LEAST_CHARS = 25  # of a text in letters with cases: shorter ones tell no language
LEAST_WIDE_CHARS = 6
SURE = 0.98  # the least probability at which a row is said to be in another language
LEAST_SHARE = 0.05  # a language of so many rows is one of the dataset's own
EXTRA = "llmos[lang]"


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Rows in a language that few rows have; a note if the detector is not installed."""
    if find_spec("py3langid") is None:
        sentence = f"Languages were not checked: the detector is not installed. pip install '{EXTRA}'"
        yield CheckFinding(KIND, Severity.NOTE, sentence, counts={"lacks": EXTRA})
        return
    told = [(row, *detect_language(" ".join(row.row.texts))) for _, row in subject.rows]
    counts = Counter(language for _, language, _ in told if language)
    total = sum(counts.values())
    if not total:
        return
    own = {language for language, count in counts.items() if count >= LEAST_SHARE * total}
    own = own or {counts.most_common(1)[0][0]}
    strange: list[tuple[Stored, str]] = [
        (row, language)
        for row, language, probability in told
        if language and language not in own and probability >= SURE and not subject.is_kept(KIND, row)
    ]
    if strange:
        main = ", ".join(sorted(own))
        by = Counter(language for _, language in strange)
        said = ", ".join(f"{language}: {count:,}" for language, count in by.most_common(8))
        sentence = f"{len(strange):,} rows seem to be in another language ({said}) than the others ({main})"
        examples = tuple({"id": row.id, "language": one, "text": show_row(row)} for row, one in strange[:EXAMPLES])
        yield CheckFinding(
            KIND, Severity.NOTE, sentence, tuple(row.id for row, _ in strange), dict(by), examples, fixes=("drop",)
        )


def detect_language(text: str) -> tuple[str, float]:
    """The language of a text (ISO 639-1) and its probability; nothing for a text too short to tell."""
    letters = "".join(one for one in text if one.isalpha())
    is_wide = any(ord(one) > 0x2E80 for one in letters)
    if len(letters) < (LEAST_WIDE_CHARS if is_wide else LEAST_CHARS):
        return "", 0.0
    language, probability = _identifier().classify(text[:2000])
    return str(language), float(probability)


_made: list[Any] = []  # Any: py3langid has no types


def _identifier() -> Any:  # Any: as above
    if not _made:
        kinds = import_module("py3langid.langid")
        _made.append(kinds.LanguageIdentifier.from_model_file(kinds.MODEL_FILE, norm_probs=True))
    return _made[0]
