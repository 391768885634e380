"""llmos: an operating system for language models. `Client` is the way in; everything else is behind the daemon."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.sdk.async_client import AsyncClient
    from llmos.sdk.client import Client

__version__ = "0.1.0"  # pyproject reads it here: asking importlib.metadata would cost every start 40 ms

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:  # Any: a module's __getattr__ answers for attributes of every type
    """Import the clients on first use, so that the daemon and its children never pay for them."""
    if name == "Client":
        from llmos.sdk.client import Client

        return Client
    if name == "AsyncClient":
        from llmos.sdk.async_client import AsyncClient

        return AsyncClient
    raise AttributeError(f"module 'llmos' has no attribute {name!r}")
