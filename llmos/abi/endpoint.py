"""The address of a model behind an OpenAI-shaped server, as rules and recipes name it: http://host:8000/v1#model."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

EXAMPLE = "http://host:8000/v1#model"
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """A server's address, which ends with /v1, and the name that it knows its model by."""

    url: str
    model: str

    @property
    def host(self) -> str:
        """Host and port, as the setting `endpoint_hosts` names them."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    @property
    def ref(self) -> str:
        """As it is named."""
        return f"{self.url}#{self.model}"


def is_address(text: str) -> bool:
    """Whether this can only be meant as an address: no model of the store has such a name."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def endpoint_in(text: str) -> EndpointAddress | None:
    """The endpoint in such a text; None if it is none: without a model, with a password or a query."""
    url, _, model = text.partition("#")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in SCHEMES and bool(parts.hostname) and bool(model) and parts.port != 0
    except ValueError:
        return None
    if not is_whole or "@" in parts.netloc or parts.query:
        return None
    return EndpointAddress(url.rstrip("/"), model)
