"""The engines: the drivers by name, which bases each can serve, and which engine answers for a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmos.abi.device import Device
from llmos.abi.error import BadInput
from llmos.abi.model import Kind, Manifest, Part
from llmos.abi.task import Family, is_encoder_decoder, open_ended_tasks, tasks_in

GRAPHS = (".onnx", ".onnx.data", ".onnx_data")  # a graph, and its external data
GRAPH_FAMILIES = (Family.LABELS, Family.TAGS, Family.VECTORS)
DEFAULT = "pytorch"
STREAM, LOGPROBS = "stream", "logprobs"
JSON_SCHEMA, REGEX, GRAMMAR, TOOLS = "json_schema", "regex", "grammar", "tools"
ALL = (STREAM, LOGPROBS, JSON_SCHEMA, REGEX, GRAMMAR, TOOLS)


@dataclass(frozen=True, slots=True)
class Driver:
    """What a driver supports: weights in these formats, for tasks of these families; empty means any.

    `only_open_ended` limits a family to tasks whose input is a whole prompt. `features` are the capabilities of
    generative models; `device_kind` is the required kind of device (empty: any); `extra` is this project's optional
    dependency that it needs.
    """

    name: str
    formats: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    features: tuple[str, ...] = ()
    serves_models: bool = True  # also models that stand on a base
    device_kind: str = ""
    extra: str | None = None
    only_open_ended: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it supports; empty means any."""
        return open_ended_tasks() if self.only_open_ended else tasks_in(*self.families)


ENGINES: dict[str, Driver] = {
    one.name: one
    for one in (
        Driver("pytorch", (".safetensors", ".gguf"), features=ALL),
        Driver(
            "llamacpp",
            (".gguf",),
            (Family.TEXT,),
            ALL,
            serves_models=False,
            device_kind="cpu",
            extra="gguf",
            only_open_ended=True,
        ),
        Driver("onnx", GRAPHS, GRAPH_FAMILIES, serves_models=False, device_kind="cpu", extra="onnx"),
        Driver(
            "vllm",
            (".safetensors",),
            (Family.TEXT,),
            (STREAM, LOGPROBS, JSON_SCHEMA, REGEX),
            serves_models=False,
            device_kind="cuda",
            extra="vllm",
            only_open_ended=True,
        ),
        Driver("null", features=(STREAM, LOGPROBS)),
    )
}


def engine_of(manifest: Manifest, asked: str | None = None, default: str = DEFAULT) -> str:
    """The engine for this model: the requested one, else the manifest's, else the daemon's default if it can, else
    pytorch.

    BadInput if the requested or named engine cannot serve it.
    """
    named = asked or str(manifest.options.get("engine") or "")
    if named:
        check_engine(named, manifest)
        return named
    chosen = default if refusal(default, manifest) is None else DEFAULT
    check_engine(chosen, manifest)
    return chosen


def check_engine(name: str, manifest: Manifest) -> None:
    """Raise BadInput for an unknown engine, or one that cannot serve this model."""
    why = refusal(name, manifest)
    if why is not None:
        raise BadInput(why, key="engine", value=name, model=manifest.ref, expected=engines_for(manifest))


def engines_for(manifest: Manifest) -> list[str]:
    """The engines that can serve this model's format."""
    return [one.name for one in ENGINES.values() if one.formats and _takes(one, manifest)]


def refusal(name: str, manifest: Manifest) -> str | None:
    """Why this engine cannot serve this model, and which can; None if it can."""
    if name not in ENGINES:
        return f"No engine {name!r}. There are: {', '.join(ENGINES)}"
    if _takes(ENGINES[name], manifest):
        return None
    others = engines_for(manifest)
    way_out = f"Use {' or '.join(others)}" if others else "Choose another model (llmos ls)"
    return f"The engine {name} cannot serve {manifest.ref}: it {_limit(ENGINES[name], manifest)}. {way_out}"


def device_for(name: str, devices: Sequence[Device]) -> Device:
    """The default device of this engine: a GPU if there is one and the engine can use it.

    BadInput if there is no device.
    """
    kind = ENGINES[name].device_kind
    fit = [device for device in devices if kind in ("", device.kind)]
    if not fit:
        raise BadInput(
            f"The engine {name} computes on a device of kind {kind}, and this box has none (it has "
            f"{', '.join(device.name for device in devices)}). Ask another engine: {DEFAULT}",
            key="engine",
            value=name,
            kind=kind,
        )
    return next((device for device in fit if device.kind == "cuda"), fit[0])


def weights_of(manifest: Manifest) -> list[str]:
    return [file.path for file in manifest.files if file.part is Part.WEIGHTS]


def reads(manifest: Manifest) -> bool:
    """Whether this is an encoder-decoder."""
    return is_encoder_decoder(manifest.options.get("tasks", ()))


def _takes(driver: Driver, manifest: Manifest) -> bool:
    if not driver.serves_models and (manifest.kind is Kind.MODEL or manifest.dtype):
        return False
    if driver.tasks and reads(manifest):
        return False
    return _fits(driver.formats, weights_of(manifest)) and (not driver.tasks or manifest.task in driver.tasks)


def _limit(driver: Driver, manifest: Manifest) -> str:
    if manifest.kind is Kind.MODEL and not driver.serves_models:
        return "serves bases as they came, and no adapters or models trained on them"
    if manifest.dtype and not driver.serves_models:
        return f"serves bases as they came, and this version is served in {manifest.dtype}"
    if driver.tasks and reads(manifest):
        return "serves no encoder with a decoder"
    if not _fits(driver.formats, weights_of(manifest)):
        return f"reads {driver.formats[0]} files, and this is {', '.join(weights_of(manifest)[:3])}"
    return f"does {', '.join(driver.tasks)}, and this is for {manifest.task}"


def _fits(formats: tuple[str, ...], paths: Iterable[str]) -> bool:
    return not formats or all(path.endswith(formats) for path in paths)
