"""TLS: a certificate and its key from files, checked before they are used, and read again when the files change."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.abi.error import BadSetting

LOOK_EVERY_S = 1.0
MOST_BYTES = 1 << 20  # of a certificate's file, with those that follow it
PEM_END = b"-----END CERTIFICATE-----"
Stamp = tuple[tuple[int, int, int], ...]
log = logging.getLogger(__name__)


class Certificate:
    """The certificate that new connections are served with. BadSetting for files that cannot serve.

    `context` stays the same object: connections that are open keep what they have, new ones get what was read last.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self.context = new_context()
        self._seen = self._stamp()
        self._loaded = self._seen
        self.pem = self._load()

    def _load(self) -> str:
        """Read both files, check them apart from what is served, then serve them; the first certificate as PEM."""
        check_mode(self._key)
        cert, key = _read(self._cert, "tls_cert"), _read(self._key, "tls_key")
        with _in_memory(cert) as cert_path, _in_memory(key) as key_path:
            for context in (new_context(), self.context):  # the second only if the first took them
                try:
                    context.load_cert_chain(cert_path, key_path, password=_no_password)
                except (ssl.SSLError, OSError, ValueError) as error:
                    raise self._unusable(error) from error
        return (cert.partition(PEM_END)[0] + PEM_END).decode("ascii", "replace") + "\n"

    def _unusable(self, error: Exception) -> BadSetting:
        said = getattr(error, "reason", None) or str(error)
        what = f"{self._cert} and {self._key} cannot be used: {said}"
        if said in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            what = f"The key {self._key} is not that of the certificate {self._cert}"
        return BadSetting(
            f"{what}. Give a certificate with its chain and its key without a password, both in PEM",
            key="tls_cert",
            value=str(self._cert),
            expected="a certificate and its key in PEM",
        )

    def _stamp(self) -> Stamp:
        found = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:  # it is being replaced
                found.append((0, 0, 0))
        return tuple(found)

    def look(self) -> bool:
        """Read the files again if they have changed and stand still; whether new ones are served."""
        before, self._seen = self._seen, self._stamp()
        if self._seen == self._loaded or self._seen != before:
            return False
        self._loaded = self._seen  # a bad file is said once
        try:
            self.pem = self._load()
        except BadSetting as error:
            log.error("the new certificate is not used, the old one stays: %s", error.message)
            return False
        log.info("new connections are served with the new certificate in %s", self._cert)
        return True

    async def watch(self, changed: Callable[[], None]) -> None:
        """Look once a second until this is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if await asyncio.to_thread(self.look):
                changed()


def new_context() -> ssl.SSLContext:
    """A server's context: TLS 1.2 and 1.3, HTTP/1.1 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def check_mode(key: Path) -> None:
    """Raise BadSetting for a key that others can read; a group may read one that is root's."""
    try:
        status = key.stat()
    except OSError:
        return  # reading it says why
    open_to = stat.S_IMODE(status.st_mode) & (0o027 if status.st_uid == 0 and os.geteuid() != 0 else 0o077)
    if open_to:
        raise BadSetting(
            f"The key {key} can be read or changed by others ({stat.filemode(status.st_mode)}): chmod 600 {key}",
            key="tls_key",
            value=str(key),
            expected="a file that only its owner can read",
        )


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadSetting(
            f"{path} cannot be read: {error.strerror}. Give a file in PEM",
            key=name,
            value=str(path),
            expected="a file in PEM",
        ) from error
    if len(data) > MOST_BYTES or b"-----BEGIN " not in data:
        raise BadSetting(
            f"{path} is not in PEM. Convert it: openssl x509 or openssl pkey",
            key=name,
            value=str(path),
            expected="a file in PEM",
        )
    return data


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path of these bytes, in memory: what is checked is what is then served, whatever becomes of the file."""
    number = os.memfd_create("llmos-tls", os.MFD_CLOEXEC)
    try:
        os.write(number, data)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _no_password() -> str:
    raise ValueError("the key has a password")
