"""The socket of llama.cpp's server, in a private temporary folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

SOCKET = "s.sock"


class Place:
    """A folder that nobody else can open. A child's temporary files lie in its scratch, so that it goes with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="llamacpp-"))
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def socket(self) -> Path:
        """Its path within this process: a socket's path has no more than 107 letters, and a scratch may have."""
        return Path(f"/proc/self/fd/{self._fd}/{SOCKET}")

    def close(self) -> None:
        os.close(self._fd)
        shutil.rmtree(self._folder, ignore_errors=True)
