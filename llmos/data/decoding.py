"""A data file as text: its encoding as told or detected, its lines and its characters, each decoded strictly."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.encoding import NAMES, WIDE, Detection, codec_of, decode_line, detect_encoding
from llmos.abi.error import BadInput, BadRow
from llmos.abi.row_path import split_part
from llmos.data.byte_source import CHUNK_BYTES, chunks_of, open_bytes
from llmos.data.table import bad_row

BOM = b"\xef\xbb\xbf"
HINT = "It needs at least one row of text and label"


@dataclass(frozen=True, slots=True)
class TextSource:
    """A file that is read as text in one encoding."""

    path: Path
    detection: Detection
    is_told: bool = False  # the user has named the encoding

    @property
    def codec(self) -> str:
        assert self.detection.codec is not None
        return self.detection.codec

    @property
    def encoding(self) -> str:
        """Its name, where it is not UTF-8."""
        return "" if self.detection.is_utf8 else self.detection.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of an encoding that was detected by its letters."""
        if self.is_told or self.detection.is_utf8 or self.codec in WIDE:
            return ()
        words = ", ".join(map(repr, self.detection.words))
        return (
            f"{self.path.name}: its bytes are not UTF-8, and are read as {self.encoding} ({words}). If these words are "
            "wrong, name the encoding with the option encoding",
        )

    def lines(self) -> Iterator[tuple[int, str] | BadRow]:
        """Every line with its number from 1 and its ending; BadRow where one's bytes are of another encoding.

        Lines end at LF alone, as files have them, and not at the other characters that Unicode calls line ends.
        """
        is_empty = True
        for number, data in enumerate(self._stored_lines(), 1):
            if isinstance(data, UnicodeDecodeError):
                yield self._undecodable(number, data)
                return
            text = data if isinstance(data, str) else self._decode(number, data)
            is_empty = is_empty and isinstance(text, str) and not text.strip()
            if isinstance(text, BadRow):
                yield text
                continue
            if self.codec in WIDE and (half := half_surrogate(text)) is not None:
                yield half_pair(self.path, number, half)
                continue
            yield number, text
        if is_empty:
            raise empty(self.path)

    def text(self) -> str:
        """The whole file; BadRow at the first bytes that are of another encoding."""
        return "".join(self.characters())

    def characters(self, size: int = CHUNK_BYTES) -> Iterator[str]:
        """The text in pieces of about so many bytes; BadRow at the first bytes that are of another encoding."""
        line = 1
        with open_bytes(self.path) as file:
            errors = "surrogatepass" if self.codec in WIDE else "strict"
            reader = io.TextIOWrapper(file, self.codec, errors, newline="")
            try:
                while piece := reader.read(size):
                    line += piece.count("\n")
                    yield piece.removeprefix("\ufeff") if line == 1 else piece
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise self._undecodable(line, error) from error

    def _stored_lines(self) -> Iterator[bytes | str | UnicodeDecodeError]:
        with open_bytes(self.path) as file:
            if not (self.codec in WIDE or self.detection.ends_at_cr):
                yield from file
                return
            errors = "surrogatepass" if self.codec in WIDE else "strict"
            newline = "\r" if self.detection.ends_at_cr else "\n"
            reader = io.TextIOWrapper(file, self.codec, errors, newline=newline)
            try:
                for line in reader:
                    yield line.removesuffix("\r") + "\n" if self.detection.ends_at_cr else line
            except UnicodeDecodeError as error:
                yield error

    def _decode(self, number: int, data: bytes) -> str | BadRow:
        data = data.removeprefix(BOM) if number == 1 else data
        try:
            return data.decode("utf-8") if self.detection.is_utf8 else decode_line(data, self.codec)
        except UnicodeDecodeError as error:
            return self._undecodable(number, error)

    def _undecodable(self, line: int, error: UnicodeDecodeError) -> BadRow:
        bad = bytes(error.object[error.start : error.end])
        name = self.detection.name
        if self.detection.is_utf8 and not self.is_told:
            other = detect_encoding([bytes(error.object)])
            read = f", but {other.name} if they are read alone" if other.codec else ""
            way_out = (
                f"Other lines are UTF-8, so mend this one{read}. For what iconv cannot read: "
                f"iconv -c -f UTF-8 -t UTF-8 {self.path.name} > utf8-{self.path.name} drops such bytes"
            )
        else:
            way_out = "Mend the line, or name another encoding with the option encoding"
        return bad_row(self.path, line, f"the bytes {bad!r} are not {name}", way_out, bad, kind="encoding")


def open_text(path: Path, encoding: str | None = None) -> TextSource:
    """The file's encoding, told or detected; BadInput where neither says, BadRow if the file is empty."""
    if encoding is not None:
        codec = codec_of(encoding)
        if codec is None:
            known = ", ".join(dict.fromkeys(NAMES.values()))
            raise BadInput(f"No encoding {encoding!r}. There are: {known} and others", value=encoding)
        found = detect_encoding(chunks_of(path))
        is_marked = found.codec in WIDE or found.codec == "utf-8-sig"
        codec = found.codec if is_marked and codec in ("utf-8", "utf-16", "utf-32") else codec
        return TextSource(path, Detection(codec, (), found.ends_at_cr), True)
    found = detect_encoding(chunks_of(path))
    if found.codec is None:
        raise _unknown(path)
    return TextSource(path, found)


def half_surrogate(text: str) -> str | None:
    """The first half of a surrogate pair without its other half, which no tokenizer takes; as it is written."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None


def half_pair(path: Path, line: int, half: str) -> BadRow:
    """The error of a row with half of a surrogate pair."""
    way_out = "The text was cut inside a character, an emoji for one. Cut it before the character, or remove the row"
    return bad_row(path, line, f"{half} is half of a surrogate pair", way_out, half, kind="half_surrogate")


def refuse_empty(path: Path) -> None:
    """BadRow if the file has no bytes, BadInput if it cannot be read."""
    with open_bytes(path) as file:
        if not file.read(1):
            raise empty(path)


def empty(path: Path) -> BadRow:
    return bad_row(path, 1, "the file is empty", HINT, kind="empty_file")


def _unknown(path: Path) -> BadRow:
    """The error of a file whose encoding does not show; with the first line that is not UTF-8."""
    line, bad = _first_bad(path)
    name = Path(split_part(str(path))[0]).name
    way_out = (
        "Say which encoding it has with the option encoding (WINDOWS-1252, GB18030, SHIFT_JIS ...), or convert it: "
        f"iconv -f ENCODING -t UTF-8 {name} > utf8-{name}"
    )
    return bad_row(path, line, f"the bytes {bad!r} are not UTF-8", way_out, bad, kind="encoding")


def _first_bad(path: Path) -> tuple[int, bytes]:
    with open_bytes(path) as file:
        for number, data in enumerate(file, 1):
            try:
                data.decode()
            except UnicodeDecodeError as error:
                return number, data[error.start : error.start + 8]
    return 1, b""
