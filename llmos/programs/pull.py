"""pull: brings a base into the store, from the catalog, a hub or a folder, and makes the form this device computes in.

A folder or repository that holds an adapter becomes a model on a base of the store: `programs/import_adapter.py`.

Arguments: `source` (a catalog name, `hf:org/name[@revision]`, or a folder), `name` (null: made from the source),
`dtype` (`int8`: a version that is served in it as well, which the name then means), `max_drop` (see quantize.py),
`engine` (null: the box's own), `task` and `labels` (of an ONNX graph),
`downloads` (where partial files live from run to run; the scratch folder where it is not given), and the machine's own
`index`, `hub`, `token` and `catalog`, each optional. A base of that name that the store has already comes as
`models[name]`; if it is from the same source, nothing is fetched.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from llmos.abi.catalog import CatalogEntry, catalog
from llmos.abi.engine import DEFAULT, check_engine
from llmos.abi.error import BadInput
from llmos.abi.frame import Accepted, Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import File, Kind, Manifest, Offer, OfferKind, Part, check_name, weights_digest
from llmos.abi.process import DONE, Progress
from llmos.abi.task import is_encoder_decoder
from llmos.abi.wire import from_plain
from llmos.programs.channel import Channel
from llmos.programs.describe import describe, is_adapter, said_of_template
from llmos.programs.disk_full import check_room, form_bytes, read_weights
from llmos.programs.download import Download, open_client, pip_settings
from llmos.programs.resident import offer_resident, with_resident
from llmos.programs.sources import Brought, Places, from_entry, from_folder, from_hub, hub_of


def main(channel: Channel, assignment: Job) -> None:
    """Fetch, describe, offer the base, then offer its resident form."""
    scratch, args = Path(assignment.scratch), assignment.args
    source = str(args["source"])
    name = check_name(str(args.get("name") or name_of(source)))
    there = assignment.models.get(name)
    is_here = there is not None and is_from(there, source, args)
    wrong = damaged_files(channel, there) if there is not None and is_here else []
    if there is not None and is_here and not wrong:
        channel.report(Progress(DONE, 1, 1, message=f"{there.manifest.ref} is here already, from {source}"))
        if _is_resident(there.manifest.options):
            _quantize_version(channel, assignment, with_resident(channel, assignment, there))
        return
    if there is not None and wrong:
        said = f"{there.manifest.ref} is damaged ({', '.join(wrong)}): it is brought in again"
        channel.report(Progress("fetch", message=said))
        print(said, flush=True)
    fresh = _empty_folder(scratch / "base")
    brought = bring(channel, assignment, source, fresh)
    if is_adapter(path for path, _ in brought.files):
        import_module("llmos.programs.import_adapter").adopt(channel, assignment, brought, fresh, name)  # brings torch
        return
    draft = _draft_offer(fresh, name, brought, args)
    if _is_resident(draft["options"]):
        check_form_room(fresh, brought, assignment.dtype, has_int8=args.get("dtype") == "int8")
    draft |= {"source": brought.source, "license": brought.license or draft["license"]}
    digest = _digest(fresh, brought)
    channel.report(Progress("commit", message=f"keeping {name}"))
    accepted = channel.offer(Offer(1, OfferKind.BASE, name, str(fresh), tuple(brought.files), draft))
    for part in brought.parts:
        part.unlink(missing_ok=True)
    made = None
    if _is_resident(draft["options"]):
        made = offer_resident(channel, accepted.ref, Path(accepted.folder), assignment.dtype, scratch / "resident")
    base = _base(accepted, draft, digest)
    if made is None or not _quantize_version(channel, assignment, ModelPath(base, accepted.folder, made)):
        channel.report(
            Progress(DONE, 1, 1, message=f"{accepted.ref} is ready{said_of_template(draft.get('template'))}")
        )


def check_form_room(fresh: Path, brought: Brought, dtype: str, *, has_int8: bool = False) -> None:
    """Raise DiskFull, before the base is kept, if its resident forms may not fit. Downloads are deleted by then."""
    weights = []
    for path in (path for path, part in brought.files if part is Part.WEIGHTS):
        with (fresh / path).open("rb") as file:
            weights.append(read_weights(path, file))
    need_bytes = form_bytes(weights, dtype, lambda: _names_of(fresh))
    said = f"{need_bytes:,} for its {dtype} form"
    if has_int8:  # the rest of an int8 form has the device's dtype: it is never larger than that form
        int8_bytes = form_bytes(weights, dtype, lambda: ("a form of its own",))
        need_bytes, said = need_bytes + int8_bytes, f"{said}, at most {int8_bytes:,} for that in int8"
    free_soon = sum(part.stat().st_size for part in brought.parts if part.exists())
    check_room(fresh, max(0, need_bytes - free_soon), said)


def _names_of(folder: Path) -> Collection[str]:
    """The model's tensor names; for a model that cannot be built, names that no file has."""
    try:
        # imports torch, which the conversion needs anyway
        names: Collection[str] = import_module("llmos.nn.load").names(folder)
    except Exception:  # noqa: BLE001  # whatever a config makes of transformers is said when the form is made
        return ("of a model that cannot be made",)
    return names


def _base(accepted: Accepted, draft: dict[str, Json], digest: str) -> Manifest:
    """The base's manifest in the store, as far as it is needed here."""
    name, _, version = accepted.ref.partition(":")
    plain = {"files": (), **draft, "name": name, "version": int(version), "kind": Kind.BASE, "base_digest": digest}
    return from_plain(plain, Manifest)


def _quantize_version(channel: Channel, assignment: Job, base: ModelPath) -> bool:
    """Make the int8 version, if it was requested."""
    if assignment.args.get("dtype") != "int8" or base.manifest.dtype == "int8":
        return False
    quantize = import_module("llmos.programs.quantize")  # brings torch
    ref, said = quantize.quantize_base(channel, assignment, base, quantize.max_drop_of(assignment.args), promotes=True)
    channel.report(Progress(DONE, 1, 1, message=f"{ref} is ready: {said}"))
    return True


def _draft_offer(folder: Path, name: str, brought: Brought, args: dict[str, Json]) -> dict[str, Json]:
    """The offer's draft, with the requested engine; BadInput if that engine cannot serve it."""
    paths, asked = [path for path, _ in brought.files], args.get("engine")
    is_graph = paths[0].endswith(".onnx")
    if not is_graph and (args.get("task") or args.get("labels")):
        raise BadInput(
            f"task and labels are declared of an ONNX graph; {paths[0]} says itself what it is. Leave them out",
            key="task",
            file=paths[0],
        )
    if is_graph:
        draft: dict[str, Json] = import_module("llmos.programs.describe_onnx").describe_graph(folder, paths, args)
    else:
        draft = describe(folder, paths)
    if asked:
        files = tuple(File(path, "", 0, part) for path, part in brought.files)
        check_engine(str(asked), Manifest(name, 1, Kind.BASE, draft["task"], files, options=draft["options"]))
        draft["options"] = {**draft["options"], "engine": str(asked)}
    if args.get("dtype") == "int8" and is_encoder_decoder(draft["options"].get("tasks", ())):
        raise BadInput(
            f"{draft['architecture']} is an encoder with a decoder, which is not computed in int8 here. "
            "Leave the dtype out",
            key="dtype",
            value="int8",
            architecture=draft["architecture"],
        )
    if args.get("dtype") == "int8" and not _is_resident(draft["options"]):
        raise BadInput(
            f"int8 is a form of pytorch's, and {draft['options']['engine']} is to serve this. Leave one out",
            key="dtype",
            value="int8",
            engine=draft["options"]["engine"],
        )
    return draft


def _is_resident(options: dict[str, Json]) -> bool:
    """Whether a base with these options has a resident form."""
    return bool(options.get("engine", DEFAULT) == DEFAULT)


def bring(channel: Channel, assignment: Job, source: str, folder: Path) -> Brought:
    """Fetch the source's files into the folder."""
    args = assignment.args
    hub = hub_of(source)
    dtype = assignment.dtype if args.get("engine") in (None, DEFAULT) else None  # other engines have no resident form
    if hub is None and is_path(source):
        return from_folder(Path(source).expanduser(), folder, channel, dtype)
    pip = pip_settings()
    places = Places(args, pip)
    downloads = Path(str(args.get("downloads") or Path(assignment.scratch) / "downloads"))
    with open_client(pip.get("cert")) as client, Download(client, downloads, channel) as download:
        if hub is not None:
            brought = from_hub(hub, places, download, folder, dtype)
        else:
            brought = from_entry(entry_of(source, args), places, download, folder, channel, dtype)
        return replace(brought, parts=tuple(download.parts))


def entry_of(source: str, args: dict[str, Json]) -> CatalogEntry:
    """The catalog's model of this name; BadInput that lists all names."""
    entries = catalog(Path(args["catalog"]) if args.get("catalog") else None)
    if source not in entries:
        raise BadInput(
            f"The catalog has no {source!r}. It has {', '.join(entries)}; other sources are hf:org/name and a folder, "
            "written with a slash (./model)",
            key="source",
            value=source,
            expected=list(entries),
        )
    return entries[source]


def is_path(source: str) -> bool:
    """Whether the source is a folder: catalog names have no slash."""
    return "/" in source and not source.startswith("hf:")


def name_of(source: str) -> str:
    """A base's default name: the last part of its source, made valid."""
    last = (
        source.removeprefix("hf:")
        .partition("@")[0]
        .rstrip("/")
        .rsplit("/", 1)[-1]
        .removesuffix(".gguf")
        .removesuffix(".onnx")
    )
    name = re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-")[:96]
    if not name:
        raise BadInput(f"No name can be made of {source!r}. Give one: llmos pull {source} --name NAME", key="name")
    return name


def is_from(there: ModelPath, source: str, args: dict[str, Json]) -> bool:
    """Whether the base in the store equals what this source would give, as far as is known without fetching."""
    if there.manifest.kind is not Kind.BASE or is_path(source):
        return False
    if there.manifest.options.get("engine") != args.get("engine"):
        return False
    hub = hub_of(source)
    if hub is not None:
        return there.manifest.source == f"hf:{hub.repo}@{hub.revision}"  # exact commits only: a branch may have moved
    entry = entry_of(source, args)
    from_wheel = entry.wheel is not None and there.manifest.source == entry.wheel.source
    return from_wheel or (entry.hub is not None and there.manifest.source.startswith(f"hf:{entry.hub.repo}@"))


def damaged_files(channel: Channel, there: ModelPath) -> list[str]:
    """The base's files in the store that differ from its manifest."""
    files, wrong, done = there.manifest.files, [], 0
    total = sum(file.size_bytes for file in files)
    for file in files:
        channel.report(Progress("verify", done, total, "bytes"))
        path = Path(there.folder) / file.path
        if not path.is_file() or _sha256(path) != file.digest:
            wrong.append(file.path)
        done += file.size_bytes
    return wrong


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(folder: Path, brought: Brought) -> str:
    weights = []
    for path, part in brought.files:
        if part is Part.WEIGHTS:
            weights.append(File(path, _sha256(folder / path), 0, part))
    return weights_digest(weights)


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
