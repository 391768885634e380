"""What is known of a file before it is opened: its path, what the user said of it, and which names columns may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.recipe import Data


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be opened as a table."""

    path: Path
    data: Data
    is_column_name: Callable[[str], bool] = lambda name: False
    is_nearly_column_name: Callable[[str], bool] = lambda name: False
