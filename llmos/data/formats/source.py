"""What is known of a file before it is opened: its path, what the user said of it, and which names columns may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.recipe import Data
from llmos.data.decoding import TextSource, open_text

EXAMPLE = '{"text": "...", "label": "..."}'


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be opened as a table."""

    path: Path
    data: Data
    is_column_name: Callable[[str], bool] = lambda name: False
    is_nearly_column_name: Callable[[str], bool] = lambda name: False
    example: str = EXAMPLE  # a row of the task, as JSON
    text: TextSource | None = None  # as detection has opened it

    def as_text(self) -> TextSource:
        """The file as text, in the encoding that was told or detected."""
        return self.text or open_text(self.path, self.data.encoding)
