"""Text encodings told from bytes: Unicode by its marks and structure, older ones where their letters make it plain."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

HEAD_BYTES = 64 * 1024
EVIDENCE_BYTES = 256 * 1024  # of lines that are not ASCII; what tells one older encoding from another
BOMS = (  # UTF-32 first: its mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")  # a line's end is no single byte there
NAMES = {  # as iconv and people call them
    "utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE",
    "utf-32": "UTF-32", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE", "cp1252": "WINDOWS-1252",
    "cp1250": "WINDOWS-1250", "cp1251": "WINDOWS-1251", "cp1253": "WINDOWS-1253", "cp1254": "WINDOWS-1254",
    "cp1255": "WINDOWS-1255", "cp1256": "WINDOWS-1256", "koi8-r": "KOI8-R", "mac-roman": "MACINTOSH",
    "cp850": "CP850", "gb18030": "GB18030", "big5": "BIG5", "cp932": "CP932", "euc-jp": "EUC-JP", "cp949": "CP949",
    "latin-1": "ISO-8859-1",
}  # fmt: skip

_SIGNS = set("’‘“”„‚–—…€£¥§©®™°«»·•´`\xa0\xad¡¿ªº±×÷²³½¼¢")
_WESTERN = ("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúü", "áâãàçéêíóôõú", "àèéìòù", "åäöæøé", "áéíóúýðþæö", "éëïöüè")
_ALL_WESTERN = frozenset("".join(_WESTERN)) - frozenset("ýðþÿ")
# Letters of one language each, by the encoding that its files have; an earlier one is taken where several fit alike.
_ACCENTS = (
    *(("cp1252", letters) for letters in _WESTERN),
    ("cp1250", "ąćęłńóśźż"),
    ("cp1250", "áčďéěíňóřšťúůýž"),
    ("cp1250", "áéíóöőúüű"),
    ("cp1254", "çğıöşüâİ"),
    ("mac-roman", "".join(sorted(_ALL_WESTERN))),
    ("cp850", "".join(sorted(_ALL_WESTERN))),
)
# The most frequent letters of scripts other than Latin, and the share of the letters that they have in plain text.
_SCRIPTS = (
    ("cp1251", "оеаинтсрвлк", 0.6),
    ("koi8-r", "оеаинтсрвлк", 0.6),
    ("cp1253", "αοιετσνηυρκ", 0.55),
    ("cp1255", "יוהלאתרשמב", 0.6),
    ("cp1256", "اليمنوردتبع", 0.6),
)
_HAN = (
    "的一是不了在人有我他这这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那"
    "得于於着著下自之年过過发發后後作里裡很房好没沒"
)
_KANA = "".join(map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FD))))
_HANGUL = "이다는의가을에고하지로기사은도를한그자리시어인나아"
_ASIAN = (
    ("euc-jp", _KANA, 0.45),
    ("cp932", _KANA, 0.45),
    ("gb18030", _HAN, 0.22),
    ("big5", _HAN, 0.22),
    ("cp949", _HANGUL, 0.3),
)
PLAIN = 0.97  # the share of letters that must be a language's own
LEAST_RATIO = 0.6  # of a script's frequent letters to what plain text has of them
RUNS = 0.5  # of the bytes beyond ASCII stand in runs of three or more, in scripts other than Latin


@dataclass(frozen=True, slots=True)
class Detection:
    """What a file's bytes say of its encoding; `codec` is None where they do not tell."""

    codec: str | None
    words: tuple[str, ...] = ()  # some that have other letters than ASCII, by which a person sees whether it is right
    ends_at_cr: bool = False  # lines end at CR alone, as old Macintosh files have them

    @property
    def is_utf8(self) -> bool:
        return self.codec in ("utf-8", "utf-8-sig")

    @property
    def name(self) -> str:
        return NAMES.get(self.codec or "", self.codec or "unknown")


def detect_encoding(chunks: Iterable[bytes]) -> Detection:
    """Reads on to the end where all is UTF-8, else until there is evidence enough."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    head, evidence, wide_chars, is_utf8, has_lf, has_cr = b"", b"", 0, True, False, False
    for chunk in chunks:
        if not head:
            head = chunk[:HEAD_BYTES]
            early = _by_mark(head) or _by_zeros(head)
            if early is not None:
                return Detection(early)
        has_lf, has_cr = has_lf or b"\n" in chunk, has_cr or b"\r" in chunk
        if is_utf8 and not (chunk.isascii() and not decoder.getstate()[0]):
            try:
                wide_chars += len(chunk) - len(decoder.decode(chunk))
            except UnicodeDecodeError:
                is_utf8 = False
        if not is_utf8:
            evidence += _lines_beyond_ascii(chunk, EVIDENCE_BYTES - len(evidence))
            if len(evidence) >= EVIDENCE_BYTES:
                break
    if is_utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            evidence = _lines_beyond_ascii(head, EVIDENCE_BYTES)
            is_utf8 = not evidence
    ends_at_cr = has_cr and not has_lf
    if is_utf8 or _is_mostly_utf8(evidence, wide_chars):
        return Detection("utf-8", (), ends_at_cr)
    codec = _by_letters(evidence)
    return Detection(codec, () if codec is None else _words(evidence, codec), ends_at_cr)


def codec_of(name: str) -> str | None:
    """Python's name of an encoding that a user names; None if there is no such text encoding."""
    try:
        found = codecs.lookup(name.strip()).name
        "".encode(found)
    except (LookupError, ValueError):
        return None
    return (
        "cp1252" if found == "iso8859-1" else found
    )  # browsers do so too (WHATWG): no file has the control characters


def decode_text(data: bytes) -> tuple[str, Detection] | None:
    """The text without its mark, and how its encoding was told; None where that does not show, or it is broken."""
    found = detect_encoding([data])
    if found.codec is None:
        return None
    try:
        return data.decode(found.codec).removeprefix("\ufeff"), found
    except UnicodeDecodeError:
        return None


def decode_line(data: bytes, codec: str) -> str:
    """Strictly, but for half surrogates in UTF-16: they are kept, so that the row can be named."""
    return data.decode(codec, "surrogatepass" if codec in WIDE else "strict")


def _by_mark(head: bytes) -> str | None:
    return next((codec for mark, codec in BOMS if head.startswith(mark)), None)


def _by_zeros(head: bytes) -> str | None:
    """UTF-16 without a mark: every second byte of ASCII is zero, and what is read so has no control characters."""
    if b"\0" not in head:
        return None
    even = head[: len(head) // 2 * 2]
    best, share = None, 0.0
    for codec in ("utf-16-le", "utf-16-be"):
        text = even.decode(codec, "replace")
        plain = sum(char.isascii() and (char.isprintable() or char in "\t\r\n") for char in text)
        odd = sum(not char.isprintable() and char not in "\t\r\n\xa0\u3000\u200b\ufeff" for char in text)
        if text and odd * 50 <= len(text) and plain / len(text) > share:
            best, share = codec, plain / len(text)
    return best if share > 0.01 else None


def _lines_beyond_ascii(chunk: bytes, most: int) -> bytes:
    """The lines that have other bytes than ASCII, so many bytes of them."""
    taken: list[bytes] = []
    size = 0
    for line in chunk.splitlines(keepends=True):
        if not line.isascii():
            taken.append(line)
            size += len(line)
            if size >= most:
                break
    return b"".join(taken)


def _is_mostly_utf8(evidence: bytes, wide_chars: int) -> bool:
    """More characters beyond ASCII are UTF-8 than are not: some lines are broken, and the file is not another's."""
    text = evidence.decode("utf-8", "surrogateescape")
    bad = sum("\udc80" <= char <= "\udcff" for char in text)
    good = wide_chars + sum(not char.isascii() for char in text) - bad
    return good > bad


def _by_letters(evidence: bytes) -> str | None:
    high = re.findall(rb"[\x80-\xff]+", evidence)
    together = sum(len(run) for run in high if len(run) > 2) / max(1, sum(map(len, high)))
    if together < RUNS:
        return _by_accents(evidence)
    found = _by_frequency(evidence, _ASIAN) or _by_frequency(evidence, _SCRIPTS)
    return found or _by_accents(evidence)


def _by_accents(evidence: bytes) -> str | None:
    """The encoding in which nearly all letters are of one language, or of the Western ones together."""
    shares: list[tuple[float, str]] = []
    for codec, letters in _ACCENTS:
        share = _share(evidence, codec, {*letters, *letters.upper(), *_SIGNS})
        if share is not None:
            shares.append((share, codec))
    share, codec = max(shares, key=lambda one: one[0], default=(0.0, ""))
    if share >= PLAIN:
        return codec
    western = {*_ALL_WESTERN, *"".join(_ALL_WESTERN).upper(), *_SIGNS}
    return "cp1252" if (_share(evidence, "cp1252", western) or 0.0) >= PLAIN else None


def _by_frequency(evidence: bytes, scripts: Iterable[tuple[str, str, float]]) -> str | None:
    best, ratio = None, LEAST_RATIO
    for codec, letters, expected in scripts:
        share = _share(evidence, codec, set(letters))
        if share is not None and share / expected > ratio:
            best, ratio = codec, share / expected
    return best


def _share(evidence: bytes, codec: str, letters: set[str]) -> float | None:
    """How many of the letters beyond ASCII are these; None where the bytes are not of this encoding."""
    try:
        text = _cut_to_whole(evidence, codec)
    except UnicodeDecodeError:
        return None
    if codec in ("cp1252", "cp1250") and re.search(r"[^\W\d_][‚„“”…•™][^\W\d_]", text):
        return None  # such signs stand beside words, not in them: these are letters of another encoding
    beyond = [char for char in text if not char.isascii() and (char.isalpha() or codec in LATIN)]
    if codec in LATIN and _capitals_inside(text) * 5 > len(beyond):
        return None
    return sum(char in letters for char in beyond) / len(beyond) if beyond else None


LATIN = frozenset(codec for codec, _ in _ACCENTS)


def _capitals_inside(text: str) -> int:
    """Capitals beyond ASCII that follow a small letter, as no language writes them."""
    return sum(not b.isascii() and a.islower() and b.isupper() for a, b in pairwise(text))


def _cut_to_whole(evidence: bytes, codec: str) -> str:
    """Decoded; a character that was cut at the end is left out."""
    return codecs.getincrementaldecoder(codec)().decode(evidence)


def _words(evidence: bytes, codec: str) -> tuple[str, ...]:
    text = _cut_to_whole(evidence, codec)
    words = (word for word in re.findall(r"[^\s,;|\t\"]+", text) if not word.isascii())
    return tuple(dict.fromkeys(word[:24] for word, _ in zip(words, range(50), strict=False)))[:3]
