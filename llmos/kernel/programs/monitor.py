"""monitor: compares the calls to a name with its version's reference rows, in the background, until it is stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput
from llmos.abi.feedback_file import FILE
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest
from llmos.abi.monitoring import FOLDER
from llmos.abi.process import Priority, Program, Spec
from llmos.kernel.monitoring.monitor_service import MONITOR, folder_of
from llmos.kernel.processes.footprint import LIGHT_CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.declaration import Declaration
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

STATISTICS_BYTES = 192 * 1024 * 1024


class MonitorProgram(Declaration):
    """Started by `POST /v1/models/{name}/monitor` alone. Its argument `model` is a bare name."""

    name: Program = MONITOR  # type: ignore[misc]  # a name that the service has too
    main = "llmos.programs.monitor"
    default_priority = Priority.BACKGROUND
    traits = Traits(is_resumable=True, continues=True)

    def check(self, spec: Spec, model: Manifest | None, facts: object) -> Spec:
        if not isinstance(spec.args.get("model"), str):
            raise BadInput("A monitor is started by llmos monitor NAME", key="model")
        return spec

    def is_light(self, spec: Spec) -> bool:
        return True

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        return {LeaseKind.WORKSPACE: LIGHT_CHILD_BYTES + STATISTICS_BYTES}

    def title(self, spec: Spec) -> str:
        return f"monitor {spec.args.get('model')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        folder = folder_of(config.home / FOLDER, str(job.args["model"]))
        more: dict[str, Json] = {"folder": str(folder), "feedback": str(config.home / FILE)}
        return replace(job, args=job.args | more)


PROGRAM = MonitorProgram()
