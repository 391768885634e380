"""The arguments of shrink: which layers of a base are kept, or how large a table of its tokens' vectors is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json

DIMENSIONS = 256
TABLE_ARCHITECTURE = "StaticEmbeddings"
MOST_DIMENSIONS, MOST_NEIGHBOURS, MOST_LAYERS = 8192, 16, 1000


@dataclass(frozen=True, slots=True)
class Shrinking:
    """What to keep of a base: `count` layers at equal distances, these `layers`, or neither for a static table."""

    count: int = 0
    layers: tuple[int, ...] = ()
    dimensions: int = DIMENSIONS
    neighbours: int = 0  # on each side of a token, which its vector also sees

    @property
    def is_static(self) -> bool:
        return not (self.count or self.layers)

    def default_name(self, base: str) -> str:
        """The new base's name where none was given."""
        name = base.partition(":")[0]
        return f"{name}-static" if self.is_static else f"{name}-{self.count or len(self.layers)}-layers"


def is_table(architecture: str) -> bool:
    """Whether a base of this architecture is a static table of token vectors, without layers."""
    return architecture == TABLE_ARCHITECTURE


def shrinking_of(args: Mapping[str, Json]) -> Shrinking:
    """What these arguments ask for; BadSetting for values that cannot be."""
    static, said = bool(args.get("static")), args.get("layers")
    given = [key for key in ("dimensions", "neighbours") if args.get(key) is not None]
    if static and said is not None:
        raise BadSetting(
            "A static table keeps no layers. Leave out layers, or static", key="layers", value=said, expected=None
        )
    if not static and said is None:
        raise BadSetting(
            "Say what to keep of the base: layers (--layers 3, or 0,2,4), or a static table of its tokens' vectors "
            "(--static)",
            key="layers",
            value=said,
            expected="a number, numbers by commas, or static",
        )
    if given and not static:
        raise BadSetting(
            f"{given[0]} is a setting of a static table, and layers were asked for. Leave one of them out",
            key=given[0],
            value=args[given[0]],
            expected=None,
        )
    if static:
        dimensions = _within("dimensions", args.get("dimensions"), DIMENSIONS, 2, MOST_DIMENSIONS)
        neighbours = _within("neighbours", args.get("neighbours"), 0, 0, MOST_NEIGHBOURS)
        return Shrinking(dimensions=dimensions, neighbours=neighbours)
    return _layers(str(said))


def _layers(said: str) -> Shrinking:
    parts = [part.strip() for part in said.split(",")]
    if not all(part.isdecimal() and int(part) < MOST_LAYERS for part in parts):
        raise _bad("layers", said, "a number of layers such as 3, or their numbers from 0 such as 0,2,4")
    numbers = tuple(map(int, parts))
    if "," not in said:
        if not numbers[0]:
            raise _bad("layers", said, "at least 1")
        return Shrinking(count=numbers[0])
    if list(numbers) != sorted(set(numbers)):
        raise _bad("layers", said, "rising numbers, each once")
    return Shrinking(layers=numbers)


def _within(key: str, value: Json, default: int, least: int, most: int) -> int:
    number = default if value is None else value
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise _bad(key, value, f"a whole number from {least} to {most:,}")
    return number


def _bad(key: str, value: object, expected: str) -> BadSetting:
    return BadSetting(f"{key} is {value!r}; it must be {expected}", key=key, value=value, expected=expected)
