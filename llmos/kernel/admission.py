"""Admission: checks a program's arguments before it is queued, and builds the job that its child gets."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import DEFAULT, ENGINES, check_engine, engine_of
from llmos.abi.error import BadInput, BadSetting, Corrupt, NotFound
from llmos.abi.form import INT8, form_dtype
from llmos.abi.frame import Job, ModelPath
from llmos.abi.model import Kind, Manifest, check_name
from llmos.abi.process import Process, Program, Spec
from llmos.abi.recipe import DTYPES, Recipe, check, recipe_of
from llmos.abi.redact import MOST_ARGS_BYTES, MOST_TITLE, SECRET_ARGS, USERINFO, shorten
from llmos.abi.task import generative_tasks
from llmos.config import Config
from llmos.kernel.paths import Roots
from llmos.kernel.processes.footprint import FootprintFacts, ModelShape, footprint_of, shape_of
from llmos.kernel.store.store import Store

NAMES_A_MODEL = {
    Program.TRAIN: "base",
    Program.SERVE: "base",
    Program.EVALUATE: "model",
    Program.QUANTIZE: "model",
}
CONFIG = "config.json"
MOST_SOURCE = 4096  # characters


def admit(
    spec: Spec, store: Store, tasks: Collection[str], kv_bytes: int, engine: str = DEFAULT, threads: int = 0
) -> tuple[Spec, dict[LeaseKind, int]]:
    """The spec with its model pinned to a version, its title and its need filled in; raises for what cannot work."""
    check_args(spec)
    manifest = _model(spec, store)
    if manifest is not None:
        spec = replace(spec, args={**spec.args, NAMES_A_MODEL[spec.program]: manifest.ref})
    match spec.program:
        case Program.TRAIN if manifest is not None:
            check_engine(DEFAULT, manifest)
            _check_recipe(recipe_of(spec.args), store, tasks)
            spec = _on_floats(spec, manifest, store)
            manifest = _model(spec, store)
        case Program.PULL:
            _check_pull(spec)
        case Program.SERVE if manifest is not None:
            asked = spec.args.get("engine")
            engine = engine_of(manifest, None if asked is None else str(asked), engine)
            spec = replace(spec, args={**spec.args, "engine": engine})
        case Program.EVALUATE | Program.QUANTIZE if manifest is not None:
            check_engine(DEFAULT, manifest)
            _check_data(spec, store)
    _check_dtype(spec, manifest)
    is_resident = manifest is not None and manifest.kind is Kind.BASE and spec.args.get("engine", DEFAULT) == DEFAULT
    resident_bytes = store.resident_bytes(manifest) if manifest is not None and is_resident else 0
    shape = _shape(manifest, store) if manifest is not None and spec.program is Program.TRAIN else None
    facts = FootprintFacts(resident_bytes, shape, kv_bytes, threads or len(os.sched_getaffinity(0)))
    needs = footprint_of(spec, {} if manifest is None else {"model": manifest}, facts)
    title = shorten(spec.title or title_of(spec), MOST_TITLE)
    if manifest is not None and manifest.dtype and spec.program is Program.SERVE:
        title += f" in {manifest.dtype}"
    return replace(spec, title=title, need_bytes=sum(needs.values())), needs


def check_args(spec: Spec) -> None:
    """BadInput for arguments that a journal and a list must not hold: secrets, or more than anybody reads."""
    if found := sorted(SECRET_ARGS & spec.args.keys()):
        raise BadInput(
            f"{found[0]!r} is a secret, and the arguments of a process are kept and listed. Leave it out, and tell the "
            "daemon: HF_TOKEN (or LLMOS_HUB_TOKEN) in its environment, or hub_token in config.toml",
            key=found[0],
        )
    for key, value in spec.args.items():
        if isinstance(value, str) and USERINFO.search(value):
            raise BadInput(f"{key!r} is an address with a password in it, which would be kept and listed", key=key)
    size_bytes = len(json.dumps(spec.args, default=str))
    if size_bytes > MOST_ARGS_BYTES:
        raise BadInput(
            f"The arguments of a process are {size_bytes:,} bytes; at most {MOST_ARGS_BYTES:,} are kept. Name files "
            "instead of what is in them",
            limit=MOST_ARGS_BYTES,
        )


def _shape(base: Manifest, store: Store) -> ModelShape | None:
    """By the base's own config, or that of a resident form, which every base has that was pulled packed."""
    for dtype in DTYPES:
        with suppress(Corrupt):  # which its start will say
            found = store.located(base.ref, dtype)
            for folder in filter(None, (found.folder, found.resident)):
                with suppress(OSError, ValueError):  # it has no config, or none that can be read
                    config = json.loads((Path(folder) / CONFIG).read_text())
                    return shape_of(config if isinstance(config, dict) else {})
    return None


def assignment(process: Process, store: Store, config: Config, device: Device) -> Job:
    """What the child of this process is told: everything its arguments name, found, and its model proven."""
    roots = Roots(config)
    args = roots.named(process.spec.program, process.spec.args)
    dtype = _dtype(process.spec, store, config, device)
    models: dict[str, ModelPath] = {}
    datasets = {ref: str(store.dataset_folder(ref)) for ref in _sources(args) if "@" in ref}
    word = NAMES_A_MODEL.get(process.spec.program)
    if word is not None:
        store.prove(args[word], dtype)
        models[word] = store.located(args[word], dtype)
    if process.spec.program is Program.TRAIN:
        version = store.promoted(args["name"])
        if version is not None:
            models["promoted"] = store.located(f"{args['name']}:{version}", dtype)
            datasets |= _training_dataset(models["promoted"].manifest, store)
        models |= _in_int8(models["base"].manifest, store, dtype)
    if process.spec.program is Program.QUANTIZE:
        models |= _to_quantize(models["model"].manifest, store, dtype)
        datasets |= _training_dataset(models["model"].manifest, store)
    if process.spec.program is Program.SERVE:
        args |= {"token_budget": config.token_budget, "kv_bytes": config.kv_bytes}
        args["vllm_command"] = config.vllm_command
    if process.spec.program is Program.EVALUATE:
        args["reports"] = str(config.home / "evaluations" / str(process.pid))
    if process.spec.program is Program.PULL:
        args["downloads"] = str(config.home / "downloads")
        if config.hub_token:
            args["token"] = config.hub_token
        if config.catalog is not None:
            args["catalog"] = str(config.catalog)
        models = bases_of(store, dtype)
    scratch = config.home / "scratch" / str(process.pid)
    scratch.mkdir(parents=True, exist_ok=True)
    return Job(
        pid=process.pid,
        program=process.spec.program,
        args=args,
        scratch=str(scratch),
        device=device.name,
        dtype=dtype,
        threads=config.threads,
        models=models,
        datasets=datasets,
        roots=roots.folders,
        cpu_kernels=config.cpu_kernels,
    )


def dtype_of(config: Config, device: Device, manifest: Manifest | None = None) -> str:
    """The number format that models compute in there, and this one is served in; of int8 with what is beside it."""
    floats = device.dtype if config.dtype == "auto" else config.dtype
    return form_dtype(manifest.dtype if manifest is not None else "", floats)


def unreachable_dtypes(config: Config, devices: Iterable[Device]) -> frozenset[str]:
    """Dtypes of forms in int8 that no CPU here answers or measures from: they were made under another setting, or for
    another processor. None of them until it is known what a CPU computes in."""
    known = [one for one in devices if one.kind == "cpu" and (config.dtype != "auto" or one.gflops)]
    reached = {form_dtype(INT8, dtype_of(config, one)) for one in known}
    return frozenset(form_dtype(INT8, dtype) for dtype in DTYPES) - reached if reached else frozenset()


def _dtype(spec: Spec, store: Store, config: Config, device: Device) -> str:
    """What a process computes in: who answers or measures, as the version is served; who trains, in float."""
    if spec.program is Program.EVALUATE and spec.args.get("dtype"):
        return form_dtype(str(spec.args["dtype"]), dtype_of(config, device))
    is_served = spec.program in (Program.SERVE, Program.EVALUATE)
    return dtype_of(config, device, store.resolve(spec.args[NAMES_A_MODEL[spec.program]]) if is_served else None)


def title_of(spec: Spec) -> str:
    """One line that tells this process from others in a list."""
    args = spec.args
    match spec.program:
        case Program.TRAIN:
            return f"train {args.get('task')} {args.get('name')} on {args.get('base')}"
        case Program.PULL:
            return f"pull {args.get('source')}"
        case Program.SERVE:
            engine = args.get("engine", DEFAULT)
            return f"serve {args.get('base')}" + (f" with {engine}" if engine != DEFAULT else "")
        case Program.QUANTIZE:
            return f"quantize {args.get('model')}"
        case Program.EVALUATE:
            return f"evaluate {args.get('model')}"
        case Program.PROBE:
            return "measure the devices"


def _training_dataset(manifest: Manifest, store: Store) -> dict[str, str]:
    """The dataset that a model was trained on, if it is still here: nothing is compared on rows that one side knows."""
    ref = manifest.lineage.get("dataset")
    try:
        return {str(ref): str(store.dataset_folder(str(ref)))}
    except (NotFound, BadInput):
        return {}


def _on_floats(spec: Spec, base: Manifest | None, store: Store) -> Spec:
    """Training on a base that is served in int8 is training on the same one in float, and serving that in int8."""
    if base is None or not base.dtype:
        return spec
    floats = store.in_dtype(base.ref, "")
    if floats is None:
        raise BadInput(f"{base.ref} is served in {base.dtype}, and its version in float is gone. Bring it in again")
    return replace(spec, args={**spec.args, "base": floats, "serve_dtype": spec.args.get("serve_dtype") or base.dtype})


def _in_int8(manifest: Manifest, store: Store, floats: str) -> dict[str, ModelPath]:
    """The int8 version of a base, or of a model's base, where there is one, beside what computes in `floats`."""
    found = store.in_dtype(manifest.base or manifest.ref, INT8)
    return {} if found is None else {INT8: store.located(found, form_dtype(INT8, floats))}


def _to_quantize(manifest: Manifest, store: Store, floats: str) -> dict[str, ModelPath]:
    """The int8 version of the base, where there is one, and the promoted version of the name."""
    found = _in_int8(manifest, store, floats)
    if (version := store.promoted(manifest.name)) is not None:
        found["promoted"] = store.located(f"{manifest.name}:{version}")
    return found


def bases_of(store: Store, dtype: str) -> dict[str, ModelPath]:
    """Every whole base by its bare name, where a puller looks before it fetches, and brings a damaged one again; and
    every version by its ref, for an adapter may stand on any."""
    bases = {}
    manifests = [manifest for manifest in store.manifests() if manifest.kind is Kind.BASE]
    for named in dict.fromkeys([*(one.name for one in manifests), *(one.ref for one in manifests)]):
        with suppress(Corrupt):
            bases[named] = store.located(named, dtype)
    return bases


def _model(spec: Spec, store: Store) -> Manifest | None:
    word = NAMES_A_MODEL.get(spec.program)
    if word is None:
        return None
    named = spec.args.get(word)
    if not isinstance(named, str) or not named:
        raise BadInput(f"{spec.program} needs {word!r}: the name of a model in the store. See: llmos ls")
    manifest = store.resolve(named)
    if word == "base" and manifest.kind is not Kind.BASE:
        raise BadInput(f"{manifest.ref} is a fine-tuned model. Name the base it stands on instead: {manifest.base}")
    return manifest


def _check_recipe(recipe: Recipe, store: Store, tasks: Collection[str]) -> None:
    if recipe.task not in tasks:
        raise BadInput(f"No task {recipe.task!r}. There are: {', '.join(tasks)}")
    check(recipe)
    check_name(recipe.name)
    if any(m.name == recipe.name and m.kind is Kind.BASE for m in store.manifests()):
        raise BadInput(f"{recipe.name!r} is the name of a base model. Give the new model another name")
    for source in (recipe.data.train, recipe.data.validation, recipe.data.test):
        if source is not None:
            _check_source(source, store)


def _check_pull(spec: Spec) -> None:
    source, name = spec.args.get("source"), spec.args.get("name")
    if not isinstance(source, str) or not source:
        raise BadInput(
            "pull needs 'source': a name of the catalog, hf:organisation/name, or an absolute folder, .gguf or .onnx"
        )
    if len(source) > MOST_SOURCE:
        raise BadInput(f"'source' has {len(source):,} characters; a path has at most {MOST_SOURCE:,}", key="source")
    if name is not None:
        check_name(str(name))
    path = Path(source)
    if source.startswith("/") and not (path.is_dir() or (path.suffix in (".gguf", ".onnx") and path.is_file())):
        said = "Name a folder with config.json and model.safetensors, or a .gguf or .onnx file"
        raise BadInput(f"No folder {source}. {said}")
    if (engine := spec.args.get("engine")) is not None and engine not in ENGINES:
        raise BadInput(f"No engine {engine!r}. There are: {', '.join(ENGINES)}", key="engine")
    graphs, generative = ENGINES["onnx"].tasks, generative_tasks()
    if (task := spec.args.get("task")) is not None and task not in (*graphs, *generative):
        raise BadInput(
            f"task is {task!r}; an ONNX graph is for {', '.join(graphs)}, an adapter that writes for "
            f"{', '.join(generative)}",
            key="task",
        )


def _check_dtype(spec: Spec, manifest: Manifest | None) -> None:
    """BadSetting for a dtype that there is none of, or not on the device."""
    said = spec.args.get("dtype") if spec.program in (Program.EVALUATE, Program.QUANTIZE, Program.PULL) else None
    if said is not None and said not in ("float32", "bfloat16", INT8):
        expected = "float32, bfloat16 or int8"
        raise BadSetting(f"dtype is {said!r}; expected {expected}", key="dtype", value=str(said), expected=expected)
    is_served = spec.program in (Program.SERVE, Program.EVALUATE)
    served = said or (manifest.dtype if manifest is not None and is_served else "")
    if served == INT8 and not spec.device.startswith("cpu"):
        what = manifest.ref if manifest is not None else spec.args.get("source")
        raise BadSetting(
            f"{what} in int8 runs only on CPUs, not on {spec.device}. Use a version in float there (llmos ls)",
            key="device",
            value=spec.device,
            expected="cpu0",
        )


def _check_data(spec: Spec, store: Store) -> None:
    for source in _sources(spec.args):
        _check_source(source, store)


def _check_source(source: str, store: Store) -> None:
    if source.startswith("/"):
        if not Path(source).is_file():
            raise BadInput(f"No file {source}. Check the path; it is read by the daemon, on its machine", file=source)
    elif "@" in source:
        store.dataset(source)
    else:
        raise BadInput(f"{source!r} is neither an absolute path nor a dataset like name@1", file=source)


def _sources(args: dict[str, object]) -> Iterator[str]:
    """Every file or dataset that the arguments name as data."""
    data = args.get("data")
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from (data[key] for key in ("train", "validation", "test") if isinstance(data.get(key), str))
