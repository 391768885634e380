"""Offers a written dataset to the store as the next version of its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest, Offer, OfferKind
from llmos.data.datasets.dataset_writer import WrittenDataset
from llmos.programs.channel import Channel


def offer_dataset(
    channel: Channel,
    job: Job,
    written: WrittenDataset,
    *,
    name: str,
    parents: Sequence[str] = (),
    operation: Mapping[str, Json],
    license: str = "",
    notes: Sequence[str] = (),
    offer_id: int = 1,
    more: Mapping[str, Json] | None = None,
) -> str:
    """The ref of the new version, or of the one that has these very rows already.

    `operation` says what made it ({"operation": "split", ...}); `more` are further fields of the manifest, whose
    provenance is joined with this one's.
    """
    further = dict(more or {})
    provenance = {
        "operation": dict(operation),
        "digest": written.digest,
        "process": job.pid,
        "offer": offer_id,
        **further.pop("provenance", {}),
    }
    draft: dict[str, Json] = {
        "task": written.task,
        "splits": written.counts,
        "columns": written.columns,
        "labels": list(written.labels),
        "options": written.options,
        "label_counts": written.label_counts,
        "extras": written.extras,
        "parents": list(parents),
        "license": license,
        "notes": list(notes),
        **further,
        "provenance": provenance,
    }
    offer = Offer(offer_id, OfferKind.DATASET, name, str(written.folder), written.files, draft)
    return channel.offer(offer).ref


def offer_child(
    channel: Channel,
    job: Job,
    written: WrittenDataset,
    parent: DatasetManifest,
    operation: Mapping[str, Json],
    *,
    notes: Sequence[str] = (),
    more: Mapping[str, Json] | None = None,
) -> str:
    """The same for a version made of another one: its name is in the arguments, licence and notes are the parent's."""
    return offer_dataset(
        channel,
        job,
        written,
        name=str(job.args["name"]),
        parents=[parent.ref],
        operation=operation,
        license=parent.license,
        notes=(*parent.notes, *notes),
        more=more,
    )
