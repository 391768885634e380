"""An uploaded file: what is known of it, and how requests name it: `upload:ID`, with a part of it `upload:ID:PART`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

PREFIX = "upload:"
FILE_PREFIX = "file-"  # of ids in OpenAI's routes
NAMED = re.compile(r"upload:([0-9a-f]{16})(?:([/:])(.+))?", re.DOTALL)
COMPLETE = re.compile(r"upload:([0-9a-f]{16})/([^/\0]+)")
DIGEST = re.compile(r"[0-9a-f]{64}")
MOST_NAME_BYTES = 200  # of a file's name in UTF-8: file systems take 255, with room for what is put before it
_folder = ""  # of this process, set once at its start


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client sends in parts. The bytes before `offset` are on the disk; all are here if it is the size.

    `sha256` is the one that the client gave and, once the file is complete, its own. One with a `purpose` came whole
    (/v1/files), and stays until it is removed or `expires_at`, if that is over 0.
    """

    id: str
    name: str
    size_bytes: int
    offset: int = 0
    sha256: str = ""
    created_at: float = 0.0
    expires_at: float = 0.0  # when it is removed, if it is neither continued nor used before
    purpose: str = ""

    @property
    def ref(self) -> str:
        """How it is named where a file of rows may be."""
        return f"{PREFIX}{self.id}"

    @property
    def path(self) -> str:
        """How processes name it: with the file's own name, which tells people what it is."""
        return f"{PREFIX}{self.id}/{self.name}"

    @property
    def file_id(self) -> str:
        """Its id in OpenAI's routes."""
        return f"{FILE_PREFIX}{self.id}"

    @property
    def is_complete(self) -> bool:
        return self.offset == self.size_bytes


def is_upload(source: str) -> bool:
    """Whether a source of rows names an uploaded file."""
    return source.startswith(PREFIX)


def upload_id(source: str) -> str:
    """The id in `upload:ID`, whatever follows it; BadInput if there is none."""
    if (found := NAMED.fullmatch(source)) is None:
        said = f"{source[:80]!r} names no uploaded file. It is upload: and the id that POST /v1/uploads answered"
        raise BadInput(said, value=source[:80], reason="upload")
    return found[1]


def with_name(source: str, upload: Upload) -> str:
    """The source as processes name it: `upload:ID/name`, and behind a colon the part that was named.

    BadInput if it has another name than the file.
    """
    found = NAMED.fullmatch(source)
    assert found is not None, f"{source} names no upload"
    rest = found[3] or ""
    if found[2] == "/":
        named, rest = rest[: len(upload.name)], rest[len(upload.name) :]
        if named != upload.name or rest[:1] not in ("", ":"):
            said = f"The file {upload.ref} is called {upload.name!r}. Name it so, or by its id alone: {upload.ref}"
            raise BadInput(said, value=source[:80], reason="upload", expected=upload.path)
        rest = rest[1:]
    return f"{upload.path}:{rest}" if rest else upload.path


def uploads_in(value: Json) -> Iterator[str]:
    """The ids of all uploaded files that a JSON value names."""
    if isinstance(value, str):
        found = NAMED.fullmatch(value)
        yield from (found[1],) if found else ()
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from uploads_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from uploads_in(one)


def check_file_name(name: str) -> str:
    """The name of a file alone, without folders; BadInput for any other, because it becomes a file's name here."""
    is_plain = name not in ("", ".", "..") and not any(s in "/\\" or category(s) in ("Cc", "Cs") for s in name)
    if not is_plain or len(name.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
        raise BadInput(
            f"{name[:80]!r} is no name for a file. Send its name alone, without folders and control characters, of at "
            f"most {MOST_NAME_BYTES} bytes",
            key="name",
            value=name[:80],
        )
    return name


def read_uploads_in(folder: str) -> None:
    """From now on, this process finds uploaded files in this folder."""
    global _folder
    _folder = folder


def real_path(path: Path) -> Path:
    """Where the file is: of an uploaded one in the folder of uploads, of any other the path itself."""
    found = COMPLETE.fullmatch(str(path))
    return Path(_folder, found[1], check_file_name(found[2])) if found and _folder else path
