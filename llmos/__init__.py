"""llmos: an operating system for language models. `Client` is the way in; everything else is behind the daemon."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.sdk.client import AsyncClient, Client

try:
    __version__ = version("llmos")
except PackageNotFoundError:  # a source tree on the path that was never installed
    __version__ = "0.0.0"

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:  # Any: a module's __getattr__ answers for attributes of every type
    """Import the clients on first use, so that the daemon and its children never pay for them."""
    if name in ("Client", "AsyncClient"):
        from llmos.sdk import client

        return getattr(client, name)
    raise AttributeError(f"module 'llmos' has no attribute {name!r}")
