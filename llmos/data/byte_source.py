"""The bytes of a data file: opened below the allowed folders, and unpacked: gzip, bzip2, xz, zstd, zip."""

from __future__ import annotations

import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from llmos.abi.error import BadInput
from llmos.abi.roots import open_below
from llmos.abi.row_path import split_part

CHUNK_BYTES = 1024 * 1024
HEAD_BYTES = 64 * 1024
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
ZIP = b"PK\x03\x04"
BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)  # what unpacking raises, besides OSError


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes from its start, unpacked; BadInput if it cannot be read, or what is packed is broken.

    Of a zip, the one file in it, or the one that the path's part names (`rows.zip:train.csv`).
    """
    name, part = split_part(str(path))
    try:
        with open_below(Path(name)) as file, _unpack(file, path, part) as unpacked:
            yield unpacked
    except BROKEN as error:
        raise _broken(path, error) from error
    except OSError as error:
        if error.errno is None and packing_of(path):  # gzip's and bzip2's own
            raise _broken(path, error) from error
        raise unreadable(path, error) from error


def head_of(path: Path) -> bytes:
    """The first bytes, unpacked."""
    with open_bytes(path) as file:
        return file.read(HEAD_BYTES)


def packing_of(path: Path) -> str:
    """How the file is packed: gzip, bzip2, xz, zstd or zip; empty if it is not."""
    with _open_stored(path) as file:
        start = file.read(8)
        if start.startswith(ZIP):
            return "" if _is_document(file) else "zip"
    return _packing(start)


def chunks_of(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def sha256_of_file(path: Path) -> str:
    """The digest of the file's bytes as they are stored; of a folder, of its files with their names, by name."""
    name = Path(split_part(str(path))[0])
    seen = hashlib.sha256()
    files = sorted(one for one in name.rglob("*") if one.is_file()) if name.is_dir() else [name]
    for one in files:
        if one is not name:
            seen.update(one.relative_to(name).as_posix().encode())
        with open_below(one) as file:
            while chunk := file.read(CHUNK_BYTES):
                seen.update(chunk)
    return seen.hexdigest()


def unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(
        f"{path} cannot be read: {error.strerror or error}. Give the path of a file that is there", file=str(path)
    )


def _broken(path: Path, error: Exception) -> BadInput:
    return BadInput(
        f"{path} is packed, and what is in it is broken or cut off ({error}). Copy or download it again, or unpack it "
        "and give the file that is in it",
        file=str(path),
        value="packed",
    )


@contextmanager
def _open_stored(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_below(Path(split_part(str(path))[0])) as file:
            yield file
    except OSError as error:
        raise unreadable(path, error) from error


def _packing(start: bytes) -> str:
    return next((name for magic, name in PACKED.items() if start.startswith(magic)), "")


def _unpack(file: BinaryIO, path: Path, part: str) -> BinaryIO:
    start = file.read(8)
    file.seek(0)
    kind = _packing(start)
    if kind == "gzip":
        import gzip  # here and below: only packed files pay for it

        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if kind == "bzip2":
        import bz2

        return cast(BinaryIO, bz2.BZ2File(file))
    if kind == "xz":
        return cast(BinaryIO, lzma.LZMAFile(file))
    if kind == "zstd":
        import pyarrow as pa

        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")))
    if start.startswith(ZIP) and not _is_document(file):
        packed = zipfile.ZipFile(file)
        return cast(BinaryIO, packed.open(_member(packed, path, part)))
    return file


def _is_document(file: BinaryIO) -> bool:
    """Whether a zip is a document that others read as a whole, such as an Excel file."""
    with zipfile.ZipFile(file) as packed:
        names = set(packed.namelist())
    file.seek(0)
    return bool(names & {"[Content_Types].xml", "mimetype"}) or any(name.endswith((".npy", ".pkl")) for name in names)


def _member(packed: zipfile.ZipFile, path: Path, part: str) -> str:
    names = [one.filename for one in packed.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if part in names:
        return part
    if len(names) == 1 and not part:
        return names[0]
    if any(one.flag_bits & 1 for one in packed.infolist()):
        raise BadInput(f"{path} is locked with a password. Unpack it, and give the file that is in it", file=str(path))
    said = f"has no file {part!r}" if part else f"has {len(names)} files"
    first = names[0] if names else "NAME"
    raise BadInput(
        f"{path} {said}. There are: {', '.join(names[:20]) or 'none'}. Name one behind a colon: "
        f"{split_part(str(path))[0]}:{first}",
        file=str(path),
        value=part,
        expected=names[:20],
    )
