"""Admission: checks a program's arguments before it is queued, and builds the job that its child gets.

Everything specific to one program is in its declaration (kernel/programs).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import DEFAULT
from llmos.abi.error import BadInput, Corrupt, Unavailable
from llmos.abi.form import INT8, form_dtype
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Process, Spec
from llmos.abi.recipe import DTYPES
from llmos.abi.redact import MOST_ARGS_BYTES, MOST_TITLE, SECRET_ARGS, USERINFO, shorten
from llmos.abi.upload import uploads_in
from llmos.config import Config
from llmos.kernel.paths import Roots
from llmos.kernel.processes.footprint import FootprintFacts, ModelShape, shape_of
from llmos.kernel.programs import declaration_of, declarations
from llmos.kernel.programs.arguments import is_dataset, row_sources
from llmos.kernel.programs.declaration import AdmissionFacts, Declaration
from llmos.kernel.store.store import Store

CONFIG = "config.json"


def admit(
    spec: Spec, store: Store, kv_bytes: int, engine: str = DEFAULT, threads: int = 0
) -> tuple[Spec, dict[LeaseKind, int]]:
    """Complete a spec: model pinned to a version, title, footprint; raises for arguments that cannot work."""
    declaration = declaration_of(spec.program)
    check_args(spec)
    spec = _with_uploads(declaration, spec, store)
    model = _model(declaration, spec, store)
    if model is not None:
        spec = replace(spec, args={**spec.args, declaration.model_argument: model.ref})
    spec = declaration.check(spec, model, AdmissionFacts(store, engine))
    model = _model(declaration, spec, store)  # the check may have chosen another version
    needs = footprint_of(spec, store, kv_bytes, threads)
    title = shorten(spec.title or declaration.title(spec), MOST_TITLE)
    if model is not None and model.dtype and declaration.traits.answers_calls:
        title += f" in {model.dtype}"
    return replace(spec, title=title, need_bytes=sum(needs.values())), needs


def title_with(spec: Spec, args: Mapping[str, Json]) -> str:
    """What an admitted process is called once it has these arguments too; empty if somebody has named it."""
    title = declaration_of(spec.program).title
    before, after = title(spec), title(replace(spec, args={**spec.args, **args}))
    return shorten(after + spec.title.removeprefix(before), MOST_TITLE) if spec.title.startswith(before) else ""


def footprint_of(spec: Spec, store: Store, kv_bytes: int, threads: int = 0) -> dict[LeaseKind, int]:
    """The bytes that a process of this checked spec needs, by kind."""
    declaration = declaration_of(spec.program)
    model = _model(declaration, spec, store)
    facts = _footprint_facts(declaration, spec, model, store)
    return declaration.footprint(spec, model, replace(facts, kv_bytes=kv_bytes, threads=threads or facts.threads))


def check_args(spec: Spec) -> None:
    """Raise BadInput for arguments that may not be journalled or listed: secrets, or oversized values."""
    if found := sorted(SECRET_ARGS & spec.args.keys()):
        raise BadInput(
            f"{found[0]!r} is a secret, and the arguments of a process are kept and listed. Leave it out, and tell the "
            "daemon: HF_TOKEN (or LLMOS_HUB_TOKEN) in its environment, or hub_token in config.toml",
            key=found[0],
            reason="secret",
        )
    for key, value in spec.args.items():
        if isinstance(value, str) and USERINFO.search(value):
            raise BadInput(
                f"{key!r} is an address with a password in it, which would be kept and listed",
                key=key,
                reason="password",
            )
    size_bytes = len(json.dumps(spec.args, default=str))
    if size_bytes > MOST_ARGS_BYTES:
        raise BadInput(
            f"The arguments of a process are {size_bytes:,} bytes; at most {MOST_ARGS_BYTES:,} are kept. Name files "
            "instead of what is in them",
            limit=MOST_ARGS_BYTES,
            size=size_bytes,
        )


def _with_uploads(declaration: Declaration, spec: Spec, store: Store) -> Spec:
    """The spec with the names of uploaded files in its arguments; UploadNotFound or Conflict if one is not here."""
    if not (named := set(uploads_in(spec.args))):
        return spec
    args = declaration.follow_paths(dict(spec.args), store.uploads)
    store.uploads.touch(named)
    return replace(spec, args=args)


def _model(declaration: Declaration, spec: Spec, store: Store) -> Manifest | None:
    """The model in the arguments, if the program takes one."""
    word = declaration.model_argument
    if not word:
        return None
    named = spec.args.get(word)
    if not isinstance(named, str) or not named:
        raise BadInput(f"{spec.program} needs {word!r}: the name of a model in the store. See: llmos ls", key=word)
    manifest = store.resolve(named)
    if declaration.needs_base and manifest.kind is not Kind.BASE:
        raise BadInput(
            f"{manifest.ref} is a fine-tuned model. Name the base it stands on instead: {manifest.base}",
            model=manifest.ref,
            base=manifest.base,
        )
    return manifest


def _footprint_facts(declaration: Declaration, spec: Spec, model: Manifest | None, store: Store) -> FootprintFacts:
    if model is None:
        return FootprintFacts(threads=len(os.sched_getaffinity(0)))
    is_resident = model.kind is Kind.BASE and spec.args.get("engine", DEFAULT) == DEFAULT
    return FootprintFacts(
        resident_bytes=store.resident_bytes(model) if is_resident else 0,
        shape=_shape(model, store) if declaration.needs_shape else None,
        threads=len(os.sched_getaffinity(0)),
        beside_bytes=declaration.beside_bytes(spec, store),
    )


def _shape(base: Manifest, store: Store) -> ModelShape | None:
    """The shape in the base's config, or in its resident form's: a base that was pulled in packed form has one."""
    for dtype in DTYPES:
        with suppress(Corrupt):  # the start of the process will report it
            found = store.located(base.ref, dtype)
            for folder in filter(None, (found.folder, found.resident)):
                with suppress(OSError, ValueError):  # no config, or an unreadable one
                    config = json.loads((Path(folder) / CONFIG).read_text())
                    return shape_of(config if isinstance(config, dict) else {})
    return None


def assignment(process: Process, store: Store, config: Config, device: Device) -> Job:
    """The job for this process's child: all models, datasets and files of its arguments, with the model verified."""
    spec = process.spec
    if spec.program not in declarations():  # not the process's fault: its work is kept
        raise Unavailable(
            f"The package that brings the program {spec.program} is gone or broken (see the daemon's log). Install it, "
            f"restart the daemon, then: llmos resume {process.pid}",
            pid=process.pid,
            program=spec.program,
        )
    declaration, roots = declaration_of(spec.program), Roots(config)
    spec = _with_uploads(declaration, spec, store)
    args = roots.with_real_paths(spec.program, spec.args)
    word = declaration.model_argument
    model = store.resolve(args[word]) if word else None
    dtype = declaration.dtype(spec, model, dtype_of(config, device))
    if model is not None:
        store.prove(model.ref, dtype)
    scratch = config.home / "scratch" / str(process.pid)
    datasets = {ref: store.dataset(ref) for ref in filter(is_dataset, row_sources(args))}
    job = Job(
        pid=process.pid,
        program=spec.program,
        args=args,
        scratch=str(scratch),
        device=device.name,
        dtype=dtype,
        threads=config.threads,
        models={} if model is None else {word: store.located(model.ref, dtype)},
        datasets={ref: str(store.dataset_folder(ref)) for ref in datasets},
        checks={ref: str(config.home / "checks" / ref) for ref in datasets},
        manifests=datasets,
        row_key=store.row_key() if declaration.needs_row_key else "",
        roots=roots.folders,
        cpu_kernels=config.cpu_kernels,
        main=declaration.main,
        uploads=str(store.uploads.folder),
        is_ready_when_it_says=declaration.traits.is_ready_when_it_says,
        is_light=declaration.is_light(spec),
    )
    job = declaration.job(job, store, config)
    scratch.mkdir(parents=True, exist_ok=True)
    return job


def dtype_of(config: Config, device: Device, manifest: Manifest | None = None) -> str:
    """The dtype in which the device serves this version; for int8, with the dtype of the other tensors."""
    floats = device.dtype if config.dtype == "auto" else config.dtype
    return form_dtype(manifest.dtype if manifest is not None else "", floats)


def unreachable_dtypes(config: Config, devices: Iterable[Device]) -> frozenset[str]:
    """The dtypes of int8 forms that no device here uses any more, after a change of settings or processor.

    Empty until the CPU's dtype is known.
    """
    known = [one for one in devices if one.kind == "cpu" and (config.dtype != "auto" or one.gflops)]
    reached = {form_dtype(INT8, dtype_of(config, one)) for one in known}
    return frozenset(form_dtype(INT8, dtype) for dtype in DTYPES) - reached if reached else frozenset()
