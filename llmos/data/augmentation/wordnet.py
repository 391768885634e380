"""WordNet where it is here: synonyms of English words, read from its dictionary files (wndb(5WN), WordNet 2.0 to 3.1).

The files are searched by bisection, not read: a lookup takes no memory, and a process starts at once.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.data.augmentation.places import Place
from llmos.data.noise import LEAST_LETTERS

PLACES = (
    Path("/usr/share/wordnet"),
    Path("/usr/local/share/wordnet"),
    Path("~/.local/share/wordnet"),
    Path("~/nltk_data/corpora/wordnet"),
)
WAY_OUT = (
    "Install its dictionary: apt install wordnet-base (Debian, Ubuntu), or put its files (index.noun, data.noun ...) "
    f"into {PLACES[2]}. Or leave synonym out: neighbour needs no dictionary"
)
PARTS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}  # of speech: the types of synsets in sense keys
COUNTS = "cntlist.rev"
MOST_SYNSETS = 1  # the most frequent sense of a word: the others are seldom meant
FUNCTION_WORDS = frozenset({
    "about", "been", "being", "both", "does", "down", "each", "else", "even", "from", "have", "having", "here", "into",
    "just", "least", "less", "like", "many", "mine", "might", "more", "most", "much", "must", "over", "past", "should",
    "some", "such", "than", "that", "then", "there", "this", "those", "under", "upon", "very", "well", "what", "when",
    "where", "while", "will", "with", "would",
})  # fmt: skip
"""Words that hold a sentence together: WordNet has only their namesakes, such as a will, or the might of an army."""


@dataclass(frozen=True, slots=True)
class WordNet:
    """The dictionary files of a folder. Its proposals do not look at the context."""

    folder: Path

    def offers(self, word: str) -> bool:
        return bool(_synonyms(self.folder, word.lower()))

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        """The synonyms of the words in these places, by the most frequent of their senses."""
        return [
            [_synonyms(self.folder, text[start:end].lower()) for start, end in some]
            for text, some in zip(texts, places, strict=True)
        ]


def find_wordnet(places: Sequence[Path] = PLACES) -> WordNet:
    """The first WordNet in these folders; BadInput where there is none."""
    for place in places:
        folder = place.expanduser()
        if all((folder / f"{kind}.{part}").is_file() for kind in ("index", "data") for part in PARTS):
            return WordNet(folder)
    raise BadInput(
        f"The augmenter synonym needs WordNet, which is in none of {', '.join(map(str, places))}. {WAY_OUT}",
        key="augment",
        value="synonym",
        lacks="wordnet",
    )


@cache
def _synonyms(folder: Path, word: str) -> tuple[str, ...]:
    """Other words of the most frequent synsets that have this word as it stands: inflected forms have none.

    All are of one part of speech, and none is so rare that WordNet's tagged texts never had it in that sense.
    """
    if not word.isascii() or not word.isalpha() or len(word) < LEAST_LETTERS or word in FUNCTION_WORDS:
        return ()
    counts = _counts(folder, word)
    senses = [(part, number, offset) for part in PARTS for number, offset in enumerate(_senses(folder, part, word), 1)]
    senses.sort(key=lambda one: (-counts.get(one[:2], 0), one[1]))
    meant = [(part, offset) for part, _, offset in senses if part == senses[0][0]][:MOST_SYNSETS]
    found = dict.fromkeys(
        other
        for part, offset in meant
        for other in _words_of_synset(folder, part, offset)
        if other != word and other.isalpha() and other.islower() and _is_usual(folder, part, offset, other)
    )
    return tuple(found)


def _is_usual(folder: Path, part: str, offset: int, word: str) -> bool:
    """Whether the tagged texts have the word in this sense; also where there are no counts."""
    if not (folder / COUNTS).is_file():
        return True
    senses = _senses(folder, part, word)
    return offset in senses and _counts(folder, word).get((part, senses.index(offset) + 1), 0) > 0


def _senses(folder: Path, part: str, word: str) -> list[int]:
    """Where the synsets of a word stand in the data file, the most frequent sense first."""
    for line in _lines(folder / f"index.{part}", f"{word} "):
        fields = line.split()
        return [int(offset) for offset in fields[-int(fields[2]) :]]
    return []


def _counts(folder: Path, word: str) -> dict[tuple[str, int], int]:
    """How often each sense of a word was met in WordNet's tagged texts, by part of speech and sense number."""
    file = folder / COUNTS
    if not file.is_file():
        return {}
    counts = {}
    for line in _lines(file, f"{word}%"):
        key, number, count = line.split()[:3]
        kind = key.partition("%")[2][0]
        part = next(name for name, kinds in PARTS.items() if kind in kinds)
        counts[part, int(number)] = int(count)
    return counts


def _words_of_synset(folder: Path, part: str, offset: int) -> list[str]:
    """The words of the synset that stands here; of adjectives, without the marks of their position."""
    data = _mapped_bytes(folder / f"data.{part}")
    fields = data[offset : data.find(b"\n", offset)].decode("ascii", "replace").split()
    if not fields or fields[0] != f"{offset:08}":
        raise BadInput(
            f"The WordNet in {folder} is damaged: no synset stands at {offset} of data.{part}. Install it anew",
            path=str(folder / f"data.{part}"),
            reason="damaged_wordnet",
        )
    return [fields[4 + 2 * i].partition("(")[0] for i in range(int(fields[3], 16))]


def _lines(file: Path, prefix: str) -> Iterator[str]:
    """The lines that begin so, of a file whose lines are sorted by their bytes."""
    data, sought = _mapped_bytes(file), prefix.encode()
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        start = data.rfind(b"\n", 0, middle) + 1
        end = _end_of_line(data, start)
        low, high = (end, high) if data[start:end] < sought else (low, start)
    yield from takewhile(lambda line: line.startswith(prefix), _lines_from(data, low))


def _lines_from(data: mmap.mmap, start: int) -> Iterator[str]:
    while start < len(data):
        end = _end_of_line(data, start)
        yield data[start:end].decode("ascii", "replace")
        start = end


def _end_of_line(data: mmap.mmap, start: int) -> int:
    end = data.find(b"\n", start)
    return len(data) if end < 0 else end + 1


@cache
def _mapped_bytes(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
