"""pull: brings a base or an adapter into the store, from the catalog, a hub, a folder or a file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.engine import ENGINES
from llmos.abi.error import BadInput, Corrupt
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.model import Kind, Manifest, check_name
from llmos.abi.process import Program, Spec
from llmos.abi.task import generative_tasks
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.declaration import AdmissionFacts, Declaration, PathRules
from llmos.kernel.programs.dtypes import check_dtype
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

MOST_SOURCE = 4096  # characters


class Pull(Declaration):
    """Its downloads survive an interruption."""

    name = Program("pull")
    scope = KeyScope.MODELS
    main = "llmos.programs.pull"
    arguments = dict.fromkeys(("source", "name", "base", "dtype", "engine", "task"), Text) | {
        "max_drop": float,
        "labels": list[Text],
    }
    traits = Traits(is_resumable=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        _check_source(spec.args.get("source"), spec.args.get("name"))
        if (engine := spec.args.get("engine")) is not None and engine not in ENGINES:
            raise BadInput(
                f"No engine {engine!r}. There are: {', '.join(ENGINES)}",
                key="engine",
                value=engine,
                expected=list(ENGINES),
            )
        graphs, generative = ENGINES["onnx"].tasks, generative_tasks()
        if (task := spec.args.get("task")) is not None and task not in (*graphs, *generative):
            raise BadInput(
                f"task is {task!r}; an ONNX graph is for {', '.join(graphs)}, an adapter that writes for "
                f"{', '.join(generative)}",
                key="task",
                value=task,
            )
        check_dtype(spec, "", spec.args.get("source"))
        return spec

    def title(self, spec: Spec) -> str:
        return f"pull {spec.args.get('source')}"

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        args = super().follow_paths(args, rules)
        source = args.get("source")
        if not isinstance(source, str) or "/" not in source or source.startswith("hf:"):
            return args
        folder = rules.follow(os.path.abspath(os.path.expanduser(source)))
        rules.check_inside(Path(folder))
        return {**args, "source": folder}

    def job(self, job: Job, store: Store, config: Config) -> Job:
        settings: dict[str, Json] = {"downloads": str(config.home / "downloads")}
        if config.hub_token:
            settings["token"] = config.hub_token
        if config.catalog is not None:
            settings["catalog"] = str(config.catalog)
        return replace(job, args=job.args | settings, models=bases_of(store, job.dtype))


def bases_of(store: Store, dtype: str) -> dict[str, ModelPath]:
    """Every intact base by bare name, for a puller to reuse or repair; and every version by ref, for adapters."""
    bases = {}
    manifests = [manifest for manifest in store.manifests() if manifest.kind is Kind.BASE]
    for named in dict.fromkeys([*(one.name for one in manifests), *(one.ref for one in manifests)]):
        with suppress(Corrupt):
            bases[named] = store.located(named, dtype)
    return bases


def _check_source(source: Json, name: Json) -> None:
    if not isinstance(source, str) or not source:
        raise BadInput(
            "pull needs 'source': a name of the catalog, hf:organisation/name, or an absolute folder, .gguf or .onnx",
            key="source",
        )
    if len(source) > MOST_SOURCE:
        raise BadInput(f"'source' has {len(source):,} characters; a path has at most {MOST_SOURCE:,}", key="source")
    if name is not None:
        check_name(str(name))
    path = Path(source)
    if source.startswith("/") and not (path.is_dir() or (path.suffix in (".gguf", ".onnx") and path.is_file())):
        said = "Name a folder with config.json and model.safetensors, or a .gguf or .onnx file"
        raise BadInput(f"No folder {source}. {said}", key="source", value=source)


PROGRAM = Pull()
