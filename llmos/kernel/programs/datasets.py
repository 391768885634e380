"""What the programs that work on datasets share: refs pinned to versions, and the folders that their children get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.model import Manifest, check_name
from llmos.abi.process import Spec
from llmos.kernel.processes.footprint import LIGHT_CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.declaration import Declaration
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config


class DatasetProgram(Declaration):
    """A program that reads or makes rows with ids. It is light, unless it asks a model as well."""

    needs_row_key = True
    scope = KeyScope.DATA

    def is_light(self, spec: Spec) -> bool:
        return True

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        return {LeaseKind.WORKSPACE: LIGHT_CHILD_BYTES}


def pin_dataset(spec: Spec, store: Store, key: str = "data") -> Spec:
    """The spec with the dataset in this argument, a name or name@version, named with its version."""
    said = spec.args.get(key)
    if not isinstance(said, str) or not said:
        raise BadInput(f"{spec.program} needs {key}: a dataset, NAME or NAME@VERSION. See: llmos data ls", key=key)
    return replace(spec, args={**spec.args, key: store.dataset(said).ref})


def pin_datasets(spec: Spec, store: Store, least: int, key: str = "datasets") -> Spec:
    """The same for an argument that lists datasets, of which there must be so many at least."""
    said = spec.args.get(key) or []
    if len(said) < least:
        raise BadInput(f"{spec.program} needs {least} datasets in {key}, and has {len(said)}", key=key)
    return replace(spec, args={**spec.args, key: [store.dataset(one).ref for one in said]})


def with_new_name(spec: Spec, default: str) -> Spec:
    """The spec with a valid name for what it makes."""
    return replace(spec, args={**spec.args, "name": check_name(str(spec.args.get("name") or default))})


def check_share(args: Mapping[str, Json], key: str) -> None:
    """BadInput unless the argument is left out or a share: over 0 and under 1."""
    share = args.get(key)
    if share is not None and not 0 < float(share) < 1:
        raise BadInput(f"{key} is {share}; it must be over 0 and under 1", key=key, value=share)


def with_datasets(job: Job, store: Store, refs: Iterable[str]) -> Job:
    """The job with the folders and manifests of these datasets."""
    manifests = {ref: store.dataset(ref) for ref in refs}
    folders = {ref: str(store.dataset_folder(ref)) for ref in manifests}
    return replace(job, datasets=job.datasets | folders, manifests=job.manifests | manifests)


def with_reports(job: Job, config: Config) -> Job:
    """The job with the folder in which its findings are kept."""
    return replace(job, args=job.args | {"reports": str(config.home / "evaluations" / str(job.pid))})
