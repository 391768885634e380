"""batch: asks the requests of a file, each once, beside live calls; what was answered survives its process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest
from llmos.abi.process import Program, Spec
from llmos.kernel.processes.footprint import LIGHT_CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.declaration import Declaration, PathRules
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

BATCHES = "batches"  # of the home
HELD_BYTES = 64 * 1024 * 1024  # of answers that wait for an earlier line's


class BatchProgram(Declaration):
    """Started by `POST /v1/batches` alone. Arguments: `batch`, `input` (an upload), `endpoint`, `expires_at`, and
    `key`, the id of the key whose rights and limits its lines have."""

    name = Program("batch")
    main = "llmos.programs.batch"
    calls_routes = True
    traits = Traits(is_resumable=True, continues=True)

    def check(self, spec: Spec, model: Manifest | None, facts: object) -> Spec:
        if not isinstance(spec.args.get("batch"), str) or not isinstance(spec.args.get("input"), str):
            raise BadInput("A batch is started by POST /v1/batches", key="batch")
        return spec

    def is_light(self, spec: Spec) -> bool:
        return True

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        return {LeaseKind.WORKSPACE: LIGHT_CHILD_BYTES + HELD_BYTES}

    def title(self, spec: Spec) -> str:
        return f"batch {spec.args.get('batch')} of {spec.args.get('endpoint')}"

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        return {**args, "input": rules.follow(str(args["input"]))}

    def job(self, job: Job, store: Store, config: Config) -> Job:
        folder = config.home / BATCHES / str(job.args["batch"])
        more: dict[str, Json] = {
            "folder": str(folder),
            "line_bytes": config.max_body_bytes,
            "held_bytes": HELD_BYTES,
        }
        return replace(job, args=job.args | more)


PROGRAM = BatchProgram()
