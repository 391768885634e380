"""The socket of llama.cpp's server, in a private temporary folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

SOCKET = "s.sock"


class Place:
    """A private folder for the socket. It lies in the child's scratch folder and is removed with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="llamacpp-"))
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def socket(self) -> Path:
        """The socket's path relative to this process: socket paths are limited to 107 bytes, and a scratch folder's may
        be longer."""
        return Path(f"/proc/self/fd/{self._fd}/{SOCKET}")

    def close(self) -> None:
        os.close(self._fd)
        shutil.rmtree(self._folder, ignore_errors=True)
