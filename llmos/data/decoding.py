"""The bytes of a data file: opened below the allowed folders, as a whole or line by line, decoded as text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from llmos.abi.error import BadInput, BadRow
from llmos.abi.roots import open_below
from llmos.data.table import bad_row

CHUNK_BYTES = 1024 * 1024
BOM = b"\xef\xbb\xbf"


def bytes_of_file(path: Path) -> bytes:
    """All bytes; BadInput if the file cannot be read, BadRow if there is nothing in it."""
    try:
        with open_below(path) as file:
            data = file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not data.strip():
        raise empty(path)
    return data


def text_of_file(path: Path) -> str:
    """The file as UTF-8 text; BadRow at the first bytes that are not."""
    data = bytes_of_file(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, error) from error


def lines_of_file(path: Path) -> Iterator[tuple[int, str] | BadRow]:
    """Every line with its number from 1 and its ending; BadRow where one's bytes are not UTF-8.

    Lines end at LF alone, as files have them, and not at the other characters that Unicode calls line ends.
    """
    is_empty = True
    try:
        with open_below(path) as file:
            for number, data in enumerate(file, 1):
                data = data.removeprefix(BOM) if number == 1 else data
                is_empty = is_empty and not data.strip()
                try:
                    yield number, data.decode("utf-8")
                except UnicodeDecodeError as error:
                    yield _not_utf8(path, number, error)
    except OSError as error:
        raise _unreadable(path, error) from error
    if is_empty:
        raise empty(path)


def sha256_of_file(path: Path) -> str:
    """The digest of the file's bytes as they are stored."""
    seen = hashlib.sha256()
    with open_below(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            seen.update(chunk)
    return seen.hexdigest()


def refuse_empty(path: Path) -> None:
    """BadRow if the file has no bytes, BadInput if it cannot be read."""
    try:
        with open_below(path) as file:
            if not file.read(1):
                raise empty(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def empty(path: Path) -> BadRow:
    return bad_row(path, 1, "the file is empty", "It needs at least one row of text and label", kind="empty_file")


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path} cannot be read: {error.strerror}. Give the path of a file that is there", file=str(path))


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> BadRow:
    bad = error.object[error.start : error.end]
    return bad_row(
        path,
        line,
        f"the bytes {bad!r} are not UTF-8",
        f"Convert the file first: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}",
        bad,
        kind="encoding",
    )
