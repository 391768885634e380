"""How a client checks the daemon's certificate: the local daemon's by itself, others by an authority."""

from __future__ import annotations

import ssl
from pathlib import Path

from llmos.abi.error import BadSetting, LlmosError
from llmos.config import SYSTEM, read_config
from llmos.sdk.authentication import is_same_server
from llmos.sdk.transport import announcement


def context_for(url: str, ca_file: str | Path | None = None) -> ssl.SSLContext | bool:
    """What an https address is checked with; True, httpx' own way, for http.

    The daemon of this home has written down its certificate: at its address that one is trusted and no other, whatever
    names it has. Else `ca_file`, or the setting `tls_ca`, is a file of authorities in PEM, or of the server's own
    certificate; without one, those of the system are asked.
    """
    if not url.startswith("https://"):
        return True
    if ca_file is None:
        try:
            config = read_config()
        except LlmosError:  # an address was given, so that the settings are not needed
            return ssl.create_default_context()
        announced = announcement(config.home)
        pem, own = announced.get("certificate"), announced.get("url")
        if isinstance(pem, str) and isinstance(own, str) and is_same_server(url, own):
            return _of_one(pem)
        if config.tls_ca in ("", SYSTEM):
            return ssl.create_default_context()
        ca_file = config.tls_ca
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(Path(ca_file).expanduser())
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(
            f"tls_ca = {str(ca_file)!r}: no certificates can be read there ({error.strerror or error})",
            key="tls_ca",
            value=str(ca_file),
            expected="a file of certificates in PEM",
        ) from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _of_one(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
