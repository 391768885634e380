"""What the store holds: model and base manifests, datasets, the blobs they name, and what a child offers to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from llmos.abi.error import BadInput, ModelNotFound
from llmos.abi.json_type import Json

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
LATEST = "latest"  # as a version: the promoted one
VERSION = re.compile(r"[1-9][0-9]{0,8}")  # canonical numbers only: `a:01` would be another name of `a:1`


class Kind(StrEnum):
    """The kind of thing that a manifest describes."""

    BASE = "base"
    MODEL = "model"


class Part(StrEnum):
    """The role of a file in a manifest."""

    WEIGHTS = "weights"
    CONFIG = "config"
    TOKENIZER = "tokenizer"
    ADAPTER = "adapter"
    HEAD = "head"
    EVIDENCE = "evidence"
    OTHER = "other"


CONTENT = (Part.WEIGHTS, Part.CONFIG, Part.TOKENIZER)  # the files of a base that decide its answers


@dataclass(frozen=True, slots=True)
class File:
    """One file of a manifest: its path in the model folder, and the blob with its bytes."""

    path: str
    digest: str
    size_bytes: int
    part: Part = Part.OTHER


@dataclass(frozen=True, slots=True)
class Manifest:
    """One immutable version of a base or a model; `ref` is `name:version`.

    `base` is the ref of a model's base (empty for a base); `labels` are in head order; `method` is `full` or `lora`;
    `template` has the results of a base's chat template trials; `options` are the task's settings for rendering and
    parsing (multi-label, threshold, pooling, max tokens, chat template ...); `evidence` is the evaluation's metrics,
    the primary one first; `lineage` names the process, recipe and data that made it. `dtype` is the serving dtype, for
    a model that of its base; empty: the device's dtype.
    """

    name: str
    version: int
    kind: Kind
    task: str
    files: tuple[File, ...]
    base: str | None = None
    base_digest: str | None = None
    method: str | None = None
    architecture: str = ""
    labels: tuple[str, ...] = ()
    options: dict[str, Json] = field(default_factory=dict)
    evidence: dict[str, Json] = field(default_factory=dict)
    lineage: dict[str, Json] = field(default_factory=dict)
    license: str = ""
    source: str = ""
    created_at: str = ""
    dtype: str = ""
    template: dict[str, Json] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """One immutable version of a dataset; `ref` is `name@version`; `splits` maps split -> rows.

    `options` are what the task's rows were read with (multi_label ...); `label_counts` maps split -> label -> rows;
    `extras` maps the source's other columns -> rows that have them; `parents` are the refs that it was made of, the
    operation stands in the provenance.
    """

    name: str
    version: int
    task: str
    files: tuple[File, ...]
    splits: dict[str, int] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    provenance: dict[str, Json] = field(default_factory=dict)
    created_at: str = ""
    options: dict[str, Json] = field(default_factory=dict)
    label_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    extras: dict[str, int] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    license: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


class OfferKind(StrEnum):
    """The kind of offer that a child makes to the store."""

    BASE = "base"
    MODEL = "model"
    DATASET = "dataset"
    RESIDENT = "resident"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's verdict on a candidate: whether to promote it, why, and the promoted version it was compared with."""

    promote: bool
    reason: str
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Files in the child's scratch folder that the kernel shall commit.

    `folder` is absolute and inside the scratch; `files` are (path inside it, part). `draft` is the manifest without
    name, version, files and created_at, as a plain dict. For a resident form, `draft` is {"base": the ref of its base,
    "dtype"}; the store names its folder. Committing the same offer twice gives the same version (its lineage names the
    process and offer). `like` is a version of the store whose files are reused where the offer has none of its own.
    """

    offer_id: int
    kind: OfferKind
    name: str
    folder: str
    files: tuple[tuple[str, Part], ...]
    draft: dict[str, Json] = field(default_factory=dict)
    verdict: Verdict | None = None
    like: str | None = None


def split_ref(text: str) -> tuple[str, int | None]:
    """Split `name`, `name:latest` or `name:version` into (name, version or None).

    ModelNotFound for a name with a slash, which no model here has; BadInput for any other text.
    """
    name, colon, version = text.partition(":")
    if "/" in name:
        raise ModelNotFound(
            f"No model {_short(text)}: names have no slash. See all names: llmos ls. Bring in a hub's model: "
            "llmos pull hf:ORG/NAME",
            name=text[:120],
        )
    check_name(name)
    if not colon or version == LATEST:
        return name, None
    if not VERSION.fullmatch(version):
        raise BadInput(
            f"{_short(text)} is no model reference: after the colon comes a version number, like {name}:1",
            reference=_short(text),
        )
    return name, int(version)


def split_dataset_ref(text: str) -> tuple[str, int | None]:
    """Split `name` or `name@version` into (name, version or None); BadInput for any other text."""
    name, at, version = text.partition("@")
    check_name(name)
    if not at:
        return name, None
    if not VERSION.fullmatch(version):
        raise BadInput(
            f"{_short(text)} is no dataset reference: after the @ comes a version number, like {name}@1",
            reference=_short(text),
        )
    return name, int(version)


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:119]}…")


def weights_digest(files: Iterable[File]) -> str:
    """The digest of a base's weights: that of their one file, or one over all their digests in path order."""
    weights = sorted((file.path, file.digest) for file in files if file.part is Part.WEIGHTS)
    if len(weights) == 1:
        return weights[0][1]
    return hashlib.sha256("\n".join(digest for _, digest in weights).encode()).hexdigest()


def content_digest(files: Iterable[File]) -> str:
    """The digest of everything that decides a base's answers: weights, configs, tokenizer and chat template, in path
    order.

    Two bases with equal weights and different templates differ.
    """
    held = sorted((file.path, file.digest) for file in files if file.part in CONTENT)
    return hashlib.sha256("\n".join(f"{path}\0{digest}" for path, digest in held).encode()).hexdigest()


def check_name(name: str) -> str:
    """The name itself if it is valid for a model or a dataset; else BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{_short(name)} is no valid name. Use lower-case letters, digits, '.', '_' and '-', at most 96, "
            "starting with a letter or digit",
            name=_short(name),
        )
    return name
