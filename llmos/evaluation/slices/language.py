"""The language of each text, where the extra `lang` is installed (py3langid)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

SURE = 0.95
SHORTEST = 20  # characters: of less text a language is a guess
UNCLEAR = "unclear"


def languages(texts: Sequence[str]) -> list[str]:
    """ISO 639-1 codes; `unclear` for short texts and guesses; empty texts where no detector is installed."""
    try:
        library = import_module("py3langid.langid")
    except ImportError:
        return [""] * len(texts)
    detector = library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True)
    return [_language(detector.classify(text), text) for text in texts]


def _language(found: tuple[str, float], text: str) -> str:
    code, share = found
    return str(code) if share >= SURE and len(text.encode()) >= SHORTEST else UNCLEAR
