"""The language of each text, where the extra `lang` is installed (py3langid)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module

SURE = 0.9
MOST_CHARS = 200  # of a text that are looked at
SAMPLE = 300
STRAY = 0.02  # this share of the clear texts may be mistakes of the detector
SHORTEST = 20  # bytes: of less text a language is a guess
UNCLEAR = "unclear"


def languages(texts: Sequence[str]) -> list[str]:
    """ISO 639-1 codes; `unclear` for short texts and guesses. Empty texts where no detector is installed, or where a
    sample of the texts has one language alone."""
    try:
        library = import_module("py3langid.langid")
    except ImportError:
        return [""] * len(texts)
    detector = library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True)

    def language(text: str) -> str:
        code, share = detector.classify(text[:MOST_CHARS])
        return str(code) if share >= SURE and len(text.encode(errors="replace")) >= SHORTEST else UNCLEAR

    step = max(1, len(texts) // SAMPLE)
    found = Counter(language(text) for text in texts[::step])
    clear = [count for code, count in found.most_common() if code != UNCLEAR]
    if not clear or sum(clear[1:]) <= STRAY * sum(clear):
        return [""] * len(texts)
    return [language(text) for text in texts]
