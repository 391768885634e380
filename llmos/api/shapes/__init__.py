"""Routes in the shape of other products: one file each, found by its name. A shape translates to calls and back."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from llmos.api.endpoint import Endpoint
from llmos.api.shapes.services import Services, Shape

__all__ = ["Services", "Shape", "shape_endpoints", "shapes"]


def shapes() -> Iterator[type[Shape]]:
    """The `SHAPE` of every file of this folder that has one, by name."""
    for found in sorted(iter_modules(__path__)):
        module = import_module(f"{__name__}.{found.name}")
        if hasattr(module, "SHAPE"):
            yield module.SHAPE


def shape_endpoints(services: Services) -> list[Endpoint]:
    """The endpoints of all shapes."""
    return [endpoint for shape in shapes() for endpoint in shape(services).endpoints()]
