"""What a shape is made with: calls, the kernel, request bodies and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llmos.api.call_service import CallApi
from llmos.api.endpoint import Bodies, Endpoint
from llmos.config import Config
from llmos.kernel.interface import KernelInterface


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the daemon that shapes translate to."""

    calls: CallApi
    kernel: KernelInterface
    bodies: Bodies
    config: Config


class Shape(Protocol):
    """The routes of one product's interface, in one file of this folder, which names the class `SHAPE`."""

    def __init__(self, services: Services) -> None: ...
    def endpoints(self) -> list[Endpoint]: ...
