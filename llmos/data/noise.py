"""Noise: small changes of a text that a reader understands through (typos, case, other names), as edits of it.

Each is deterministic by its random generator, and keeps what the text says: a negation is never touched. Edits say
where they are, so that labels of spans follow them (`move`). Nothing here knows of rows, models or tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from unicodedata import category, combining, normalize

from llmos.data.lexicons import NAME_GROUPS, PLACE_GROUPS, Groups

LEAST_LETTERS = 4  # of a word that gets a slip: shorter ones are small words, or become others
KEPT_LETTERS = 2  # at a word's beginning: by them it is known again, and un- stays un-


@dataclass(frozen=True, slots=True)
class Edit:
    """`text[start:end]` becomes `new`; an insertion has start == end."""

    start: int
    end: int
    new: str


Noise = Callable[[str, Random, float, int], list[Edit]]
"""The edits of a text: its words by chance, this share of them and at least so many, where there are as many."""


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text with these edits, which must be in order and apart from each other."""
    parts, at = [], 0
    for edit in edits:
        assert at <= edit.start <= edit.end <= len(text), f"{edit} overlaps the one before it, or leaves the text"
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])


def move(start: int, end: int, edits: Iterable[Edit]) -> tuple[int, int]:
    """Where the span start:end of a text lies after these edits: what is inserted at its borders stays outside."""
    moved_start, moved_end, shift = start, end, 0
    for edit in edits:
        grown = len(edit.new) - (edit.end - edit.start)
        if edit.end <= start:
            moved_start += grown
        elif edit.start < start:
            moved_start = edit.start + shift
        if edit.end <= end and not edit.start == edit.end == end:
            moved_end += grown
        elif edit.start < end < edit.end:
            moved_end = edit.start + shift + len(edit.new)
        shift += grown
    return moved_start, max(moved_start, moved_end)


def outside(edits: Iterable[Edit], spans: Sequence[tuple[int, int]]) -> list[Edit]:
    """The edits that leave these spans as they are."""
    return [one for one in edits if not any(one.start < end and start < one.end for start, end in spans)]


NEGATIONS = frozenset({
    "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "cannot", "without", "hardly",
    "barely", "scarcely", "nicht", "nichts", "kein", "keine", "keinen", "keinem", "keiner", "niemals", "niemand",
    "ohne", "jamais", "rien", "aucun", "aucune", "sans", "nunca", "nada", "nadie", "ninguno", "ninguna", "jamás",
    "нет", "никогда", "ничего", "никто",
})  # fmt: skip
NEGATIONS_HAN = frozenset("不没沒無无未别別非勿莫否")
HAN = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
HAN_SIGN = re.compile(f"[{HAN}]")
HAN_RUN = re.compile(f"[{HAN}]{{4,}}")
WORD = re.compile(r"(?<![\w@:/'’-])(?<!\w\.)[^\W\d_]+(?:['’][^\W\d_]+)*(?![\w@:/-]|\.\w)")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of letters, and where it starts."""

    start: int
    text: str


def is_negation(word: str) -> bool:
    """Whether a word negates: no slip may touch it."""
    plain = word.lower().replace("’", "'")
    return plain in NEGATIONS or plain.endswith("n't") or not NEGATIONS_HAN.isdisjoint(plain)


def words_of(text: str) -> list[Word]:
    """The words of letters with case that are no negation, no address, and no part of a longer sign."""
    found = []
    for match in WORD.finditer(text):
        word, after = match[0], text[match.end() : match.end() + 1]
        if word.lower() != word.upper() and not is_negation(word) and not (after and combining(after)):
            found.append(Word(match.start(), word))
    return [one for one in found if not HAN_SIGN.search(one.text)]


def _choose(places: Sequence[Word], rng: Random, share: float, least: int) -> list[Word]:
    """This share of the places, in order; the part of one that is left over is one by chance."""
    count = min(len(places), max(least, int(len(places) * share + rng.random())))
    return [places[i] for i in sorted(rng.sample(range(len(places)), count))]


def _long_words(text: str) -> list[Word]:
    """The words that are long enough for a slip, by letters alone."""
    return [one for one in words_of(text) if len(one.text) >= LEAST_LETTERS and one.text.isalpha()]


def typo(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """A letter doubled, dropped or swapped with the next; of Chinese and Japanese, two neighbours swapped."""
    places = sorted([*_long_words(text), *_han_places(text)], key=lambda one: one.start)
    return [_slip(place, rng) for place in _choose(places, rng, share, least)]


def _han_places(text: str) -> Iterator[Word]:
    """Two signs within every four of a run, which may be swapped: they differ, and neither negates."""
    for run in HAN_RUN.finditer(text):
        for at in range(run.start(), run.end() - 3, 4):
            pair = text[at + 1 : at + 3]
            if pair[0] != pair[1] and NEGATIONS_HAN.isdisjoint(text[at : at + 4]):
                yield Word(at + 1, pair)


def _slip(word: Word, rng: Random) -> Edit:
    letters = word.text
    if HAN_SIGN.match(letters):
        return Edit(word.start, word.start + 2, letters[::-1])
    at = rng.randrange(KEPT_LETTERS, len(letters))
    slips = [Edit(at, at + 1, letters[at] * 2)]
    if at + 1 < len(letters) and letters[at] != letters[at + 1]:
        slips.append(Edit(at, at + 2, letters[at + 1] + letters[at]))
    if at + 1 < len(letters) > LEAST_LETTERS:  # never the last one dropped: it may be a plural
        slips.append(Edit(at, at + 1, ""))
    slip = rng.choice([one for one in slips if not is_negation(apply(letters, [one]))])
    return Edit(word.start + slip.start, word.start + slip.end, slip.new)


ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """The keys beside each key of a QWERTY keyboard, in its row and the rows next to it."""
    places = {key: (y, x + y * 0.4) for y, row in enumerate(ROWS) for x, key in enumerate(row)}
    return {
        key: "".join(k for k, (v, u) in places.items() if k != key and abs(v - y) <= 1 and abs(u - x) <= 1)
        for key, (y, x) in places.items()
    }


NEIGHBOURS = _neighbours()


def keyboard(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """A letter struck on the key beside it (QWERTY)."""
    return _replaced_letters(text, rng, share, least, NEIGHBOURS)


LOOKALIKES = {
    "l": ("1", "I"), "o": ("0",), "i": ("l", "1"), "s": ("5",), "b": ("6",), "e": ("c",), "m": ("rn",), "n": ("ri",),
    "d": ("cl",), "w": ("vv",), "h": ("b",), "u": ("ii",), "c": ("e",), "g": ("9",), "t": ("f",),
}  # fmt: skip


def ocr(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """A letter read as a sign that looks like it, as by optical character recognition."""
    return _replaced_letters(text, rng, share, least, LOOKALIKES)


def _replaced_letters(
    text: str, rng: Random, share: float, least: int, others: Mapping[str, Sequence[str]]
) -> list[Edit]:
    """One letter of each chosen word, which is not its first, replaced by one of the others for it."""
    places = {
        word: [i for i in range(KEPT_LETTERS, len(word.text)) if word.text[i].lower() in others]
        for word in _long_words(text)
    }
    edits = []
    for word in _choose([word for word, inside in places.items() if inside], rng, share, least):
        at = rng.choice(places[word])
        new = rng.choice(others[word.text[at].lower()])
        edits.append(Edit(word.start + at, word.start + at + 1, new.upper() if word.text[at].isupper() else new))
    return edits


ACCENTED = {"a": "áàâä", "e": "éèêë", "i": "íìîï", "o": "óòôö", "u": "úùûü", "n": "ñ", "c": "ç"}


def accents(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """Accents left out where the Latin text has some; else letters with one that does not belong there."""
    return strip_accents(text, rng, share, least) or _replaced_letters(text, rng, share, least, ACCENTED)


def strip_accents(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """All accents of Latin letters left out."""
    edits, is_latin = [], False
    for i, sign in enumerate(text):
        if category(sign) == "Mn":
            if is_latin:
                edits.append(Edit(i, i + 1, ""))
            continue
        plain = normalize("NFD", sign)[0]
        is_latin = plain.isascii() and plain.isalpha()
        if is_latin and plain != sign:
            edits.append(Edit(i, i + 1, plain))
    return edits


def upper(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """All letters as capitals."""
    return [Edit(i, i + 1, sign.upper()) for i, sign in enumerate(text) if sign.upper() != sign]


def lower(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """All letters small."""
    return [Edit(i, i + 1, sign.lower()) for i, sign in enumerate(text) if sign.lower() != sign]


def case(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """All letters small or all as capitals; whichever changes something, by chance if both do."""
    both = [edits for edits in (lower(text, rng, share, least), upper(text, rng, share, least)) if edits]
    return rng.choice(both) if both else []


COMMA = re.compile(r"(?<=[^\W\d]),(?= )|(?<=[\u3400-\u9fff])，(?=[\u3400-\u9fff])")
END = re.compile(r"([.!?。！？]+)\s*$")


def punctuation(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """The marks at the end left out, or a full stop where there is none; and commas between words left out."""
    length = len(text.rstrip())
    if not length:
        return []
    end = END.search(text)
    if end is not None and end.start():
        return [*_commas(text[: end.start()]), Edit(end.start(1), end.end(1), "")]
    is_word = text[length - 1].isalnum()
    return [Edit(length, length, "。" if HAN_SIGN.match(text[length - 1]) else ".")] if is_word else []


def _commas(text: str) -> Iterator[Edit]:
    """The commas between words; not those after a negation, which says another thing without: No, stop."""
    for comma in COMMA.finditer(text):
        before = re.split(r"[\s,，]", text[: comma.start()])[-1]
        if not is_negation(before):
            yield Edit(comma.start(), comma.end(), "")


SHORT = {
    "do not": "don't", "does not": "doesn't", "did not": "didn't", "is not": "isn't", "are not": "aren't",
    "was not": "wasn't", "were not": "weren't", "have not": "haven't", "has not": "hasn't", "had not": "hadn't",
    "would not": "wouldn't", "could not": "couldn't", "should not": "shouldn't", "will not": "won't",
    "cannot": "can't", "I am": "I'm", "you are": "you're", "we are": "we're", "they are": "they're", "I have": "I've",
    "we have": "we've", "you have": "you've", "they have": "they've", "I will": "I'll", "we will": "we'll",
    "you will": "you'll", "they will": "they'll",
}  # fmt: skip
LONG = {short.lower(): long for long, short in SHORT.items()}
NO_SUBJECT = (
    r"(?!\s+(?:I|you|he|she|it|we|they|this|that|there|the|my|your|our)\b)"  # none can spell out: Don't you go?
)


def _alternatives(phrases: Iterable[str]) -> re.Pattern[str]:
    """Any of these before another word, with either apostrophe."""
    spelt = "|".join(one.replace("'", "['’]") for one in phrases)
    return re.compile(rf"(?<![\w'’])(?:{spelt})(?=\s+\w){NO_SUBJECT}", re.IGNORECASE)


SHORTENED, SPELT_OUT = _alternatives(SHORT), _alternatives(LONG)
HAVE = re.compile(r"have$", re.IGNORECASE)
HAVE_DONE = re.compile(r"\s+(?:been|had|got|not|never|already|just|\w+ed)\b", re.IGNORECASE)


def contraction(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """`do not` as `don't` and `I am` as `I'm`; where there is nothing to shorten, what is short spelt out."""
    shortened = [
        one
        for one in SHORTENED.finditer(text)
        if not HAVE.search(one[0]) or HAVE_DONE.match(text, one.end())  # not: I have a question
    ]
    other = {long.lower(): short for long, short in SHORT.items()} if shortened else LONG
    edits = []
    for one in shortened or SPELT_OUT.finditer(text):
        new = other.get(one[0].lower().replace("’", "'"))
        if new is not None:  # a letter such as ı matches i in any case, and is none
            edits.append(Edit(one.start(), one.end(), _copy_case(one[0], new)))
    return edits


def _copy_case(model: str, text: str) -> str:
    """The text in the case of what it stands for; `I` stays a capital."""
    if model.isupper() and len(model) > 3:
        return text.upper()
    if model[0].isupper():
        return text[0].upper() + text[1:]
    return text.lower()


SENTENCES = ("Thanks in advance.", "Hello.", "Good morning.", "Hope you are well.", "Many thanks.", "Best regards.")
SENTENCES_HAN = ("你好。", "谢谢。", "早上好。", "祝好。")
OPENINGS = ("Hello.", "Good morning.", "Hope you are well.", "你好。", "早上好。")


def sentence(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """A greeting before the text or thanks after it, which say nothing of their own."""
    if not text.strip():
        return []
    is_han = HAN_SIGN.search(text) is not None
    said, gap = rng.choice(SENTENCES_HAN if is_han else SENTENCES), "" if is_han else " "
    if said in OPENINGS:
        return [Edit(0, 0, said + gap)]
    length = len(text.rstrip())
    stop = "" if not text[length - 1].isalnum() else "。" if is_han else "."
    return [Edit(length, length, f"{stop}{gap}{said}")]


DIGITS = re.compile(r"(?<![\w:/.,-])(?!(?:19|20)\d\d(?!\d))\d{3,}(?![\w:/-])|(?<=[A-Za-z]-)\d{3,}(?![\w:/-])")


def number(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """Other digits in numbers of three and more that are no year, date or time: of orders, amounts, houses."""
    return [Edit(one.start(), one.end(), _other_digits(one[0], rng)) for one in DIGITS.finditer(text)]


def _other_digits(digits: str, rng: Random) -> str:
    """As many digits, each another one; neither the first nor the second is 0, 1 or 2, so that no year comes of it."""
    return "".join(
        rng.choice([one for one in ("3456789" if i < 2 else "0123456789") if one != old])
        for i, old in enumerate(digits)
    )


def name(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """Other names for the persons whom the lexicon knows: a woman's for a woman's."""
    return replace_entries(text, NAME_GROUPS, rng)


def place(text: str, rng: Random, share: float, least: int) -> list[Edit]:
    """Other places for those that the lexicon knows: a country for a country."""
    return replace_entries(text, PLACE_GROUPS, rng)


def replace_entries(text: str, groups: Groups, rng: Random) -> list[Edit]:
    """Every entry of these groups by another of its group: the same everywhere in the text, no two by one."""
    group_of = {entry.lower(): group for group in groups for entry in group}
    found = [one for one in _pattern(groups).finditer(text) if one[0].lower() in group_of]
    new: dict[str, str] = {}
    for match in found:
        old = match[0].lower()
        if old not in new:
            present = {one[0].lower() for one in found} | {one.lower() for one in new.values()}
            others = [one for one in group_of[old] if one.lower() not in present]
            new[old] = rng.choice(others) if others else match[0]
    edits = [Edit(one.start(), one.end(), _copy_style(one[0], new[one[0].lower()])) for one in found]
    return [one for one in edits if text[one.start : one.end] != one.new]


def _copy_style(model: str, text: str) -> str:
    if model.islower():
        return text.lower()
    return text.upper() if model.isupper() and len(model) > 1 else text


@cache
def _pattern(groups: Groups) -> re.Pattern[str]:
    """The longest entry at each place, as a whole word where its script has spaces."""
    entries = sorted({entry for group in groups for entry in group}, key=lambda one: (-len(one), one))
    spelt = (re.escape(one) if HAN_SIGN.match(one) else rf"(?<!\w){re.escape(one)}(?!\w)" for one in entries)
    return re.compile("|".join(spelt) or r"(?!)", re.IGNORECASE)


NOISES: Mapping[str, Noise] = {
    "typo": typo,
    "keyboard": keyboard,
    "ocr": ocr,
    "accents": accents,
    "case": case,
    "upper": upper,
    "lower": lower,
    "punctuation": punctuation,
    "contraction": contraction,
    "sentence": sentence,
    "number": number,
    "name": name,
    "place": place,
}
BY_WORDS = frozenset({"typo", "keyboard", "ocr", "accents"})  # those of which there can be more or less
