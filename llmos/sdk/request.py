"""What each verb of the client sends and how its answer is read. Sends nothing itself: both clients share it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec

from llmos.abi.api_types import DiskUse, JournalSnapshot, Model, Status, Verified, process_of
from llmos.abi.batch import BatchInfo
from llmos.abi.check_marks import CheckSummary
from llmos.abi.device import Device
from llmos.abi.disagreement import Disagreement
from llmos.abi.error import BadInput, BadSetting
from llmos.abi.gate import SUITE, Gate
from llmos.abi.json_type import Json
from llmos.abi.key import ApiKey, KeyLimits, KeyScope, NewKey
from llmos.abi.labelling import LabellingState
from llmos.abi.method import setting_names
from llmos.abi.model import DatasetManifest
from llmos.abi.objective import objective_settings
from llmos.abi.process import Priority, Process
from llmos.abi.recipe import ROW_FILES, Data, Lora, Recipe, starter
from llmos.abi.rollout import RolloutView
from llmos.abi.row_outcome import RowErrors
from llmos.abi.row_path import split_part
from llmos.abi.task import find_spec, recipe_options
from llmos.abi.tuning import Leaderboard
from llmos.abi.upload import is_upload
from llmos.abi.wire import from_plain, to_plain
from llmos.data.weak_labels.reading import read_rules
from llmos.sdk.result import Result, result_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A request, and how its answer's JSON becomes a result."""

    method: str
    path: str
    read: Callable[[Json], T]
    body: Json = None
    query: Mapping[str, str] | None = None
    content: bytes | None = None  # in place of a body
    headers: Mapping[str, str] | None = None


def _many(kind: type[T]) -> Callable[[Json], list[T]]:
    return lambda answer: from_plain(answer["data"], list[kind])  # type: ignore[valid-type]  # a type held in a name


def _one(kind: type[T]) -> Callable[[Json], T]:
    return lambda answer: from_plain(answer, kind)


def _processes(answer: Json) -> list[Process]:
    return [process_of(one) for one in answer["data"]]


def _parse_removed(answer: Json) -> list[str]:
    return list(answer["removed"])


def status() -> Request[Status]:
    return Request("GET", "/v1/status", _one(Status))


def devices() -> Request[list[Device]]:
    return Request("GET", "/v1/devices", _many(Device))


def keys() -> Request[list[ApiKey]]:
    return Request("GET", "/v1/keys", _many(ApiKey))


def create_key(
    name: str,
    scopes: Sequence[KeyScope | str],
    models: Sequence[str],
    expires_at: float | None,
    limits: KeyLimits | None,
    priority: Priority | str,
) -> Request[NewKey]:
    body = {"name": name, "scopes": [*scopes], "models": [*models], "expires_at": expires_at, "priority": priority}
    body |= {} if limits is None else {"limits": to_plain(limits)}
    return Request("POST", "/v1/keys", _one(NewKey), body)


def rotate_key(key_id: str, grace_s: float) -> Request[NewKey]:
    return Request("POST", f"/v1/keys/{quote(key_id, safe='')}/rotate", _one(NewKey), {"grace_s": grace_s})


def remove_key(key_id: str) -> Request[list[str]]:
    return Request("DELETE", f"/v1/keys/{quote(key_id, safe='')}", _parse_removed)


def disk() -> Request[DiskUse]:
    return Request("GET", "/v1/disk", _one(DiskUse))


def collect() -> Request[int]:
    return Request("POST", "/v1/gc", lambda answer: int(answer["freed_bytes"]))


def snapshot() -> Request[JournalSnapshot]:
    return Request("POST", "/v1/snapshot", _one(JournalSnapshot))


def verify() -> Request[Verified]:
    return Request("POST", "/v1/verify", _one(Verified))


def begin_batch(ref: str, endpoint: str, window: str, metadata: Mapping[str, str] | None) -> Request[BatchInfo]:
    body = {"input_file_id": ref, "endpoint": endpoint, "completion_window": window, "metadata": metadata}
    return Request("POST", "/v1/batches", _one(BatchInfo), body)


def show_batch(name: str) -> Request[BatchInfo]:
    return Request("GET", f"/v1/batches/{name}", _one(BatchInfo))


def batches() -> Request[list[BatchInfo]]:
    return Request("GET", "/v1/batches", _many(BatchInfo), query={"limit": "100"})


def cancel_batch(name: str) -> Request[BatchInfo]:
    return Request("POST", f"/v1/batches/{name}/cancel", _one(BatchInfo))


def file_facts(file_id: str) -> Request[Mapping[str, Json]]:
    """Its `size_bytes`, and its `sha256` if it does not grow any more."""
    return Request("GET", f"/v1/files/{file_id}", lambda one: {"size_bytes": one["bytes"], "sha256": one["sha256"]})


def models() -> Request[list[Model]]:
    return Request("GET", "/v1/models", _versions)


def _versions(body: Json) -> list[Model]:
    """Each version once, because promoted ones are also listed under their bare names."""
    return [_model for one, _model in zip(body["data"], _many(Model)(body), strict=True) if one["id"] == one["ref"]]


def model(ref: str) -> Request[Model]:
    return Request("GET", f"/v1/models/{quote(ref, safe=':')}", _one(Model))


def promote(ref: str) -> Request[Model]:
    return Request("POST", f"/v1/models/{quote(ref, safe=':')}/promote", _one(Model))


def rollback(name: str) -> Request[Model]:
    return Request("POST", f"/v1/models/{quote(name, safe=':')}/rollback", _one(Model))


def gate(name: str) -> Request[Gate]:
    return Request("GET", f"/v1/models/{quote(name)}/gate", _one(Gate))


def set_gate(name: str, require: Sequence[str] | None, margin: float | None) -> Request[Gate]:
    said = {"require": None if require is None else list(map(_requirement, require)), "margin": margin}
    body = {key: value for key, value in said.items() if value is not None}
    return Request("POST", f"/v1/models/{quote(name)}/gate", _one(Gate), body)


def _requirement(text: str) -> str:
    """A requirement as it is; of a suite that is on this machine, with its absolute path."""
    word, colon, path = text.partition(":")
    is_here = word.strip() == SUITE and colon and Path(path).expanduser().exists()
    return f"{SUITE}:{Path(path).expanduser().absolute()}" if is_here else text


def reset_gate(name: str) -> Request[Gate]:
    return Request("DELETE", f"/v1/models/{quote(name)}/gate", _one(Gate))


def rollout(name: str) -> Request[RolloutView]:
    return Request("GET", f"/v1/models/{quote(name)}/rollout", _one(RolloutView))


def start_rollout(name: str, candidate: int | str, asked: Mapping[str, Json]) -> Request[RolloutView]:
    """The candidate is a version's number, or its ref."""
    number = int(str(candidate).rpartition(":")[2]) if str(candidate).rpartition(":")[2].isdecimal() else candidate
    body = {"candidate": number, **{key: value for key, value in asked.items() if value is not None}}
    return Request("POST", f"/v1/models/{quote(name)}/rollout", _one(RolloutView), body)


def disagreements(name: str, user: str | None, limit: int | None) -> Request[list[Disagreement]]:
    asked = {key: str(value) for key, value in (("user", user), ("limit", limit)) if value is not None}
    return Request("GET", f"/v1/models/{quote(name)}/rollout/disagreements", _many(Disagreement), query=asked)


def stop_rollout(name: str) -> Request[RolloutView]:
    return Request("DELETE", f"/v1/models/{quote(name)}/rollout", _one(RolloutView))


def errors(
    ref: str, kind: str | None, label: str | None, slice: str | None, limit: int | None, evaluation: int | None
) -> Request[RowErrors]:
    asked = {"kind": kind, "label": label, "slice": slice, "limit": limit, "evaluation": evaluation}
    query = {key: str(value) for key, value in asked.items() if value is not None}
    return Request("GET", f"/v1/models/{quote(ref, safe=':')}/errors", _row_errors, query=query)


def _row_errors(answer: Json) -> RowErrors:
    return msgspec.convert(answer, RowErrors)


def remove(ref: str) -> Request[list[str]]:
    return Request("DELETE", f"/v1/models/{quote(ref, safe=':')}", _parse_removed)


def datasets() -> Request[list[DatasetManifest]]:
    return Request("GET", "/v1/datasets", _many(DatasetManifest))


def dataset(ref: str) -> Request[DatasetManifest]:
    return Request("GET", f"/v1/datasets/{quote(ref, safe='@')}", _one(DatasetManifest))


def dataset_rows(ref: str, split: str | None, offset: int, limit: int) -> Request[list[Json]]:
    asked = {"split": split, "offset": offset, "limit": limit}
    query = "&".join(f"{key}={quote(str(value))}" for key, value in asked.items() if value is not None)
    return Request("GET", f"/v1/datasets/{quote(ref, safe='@')}/rows?{query}", lambda answer: list(answer["rows"]))


def dataset_findings(ref: str) -> Request[CheckSummary]:
    path = f"/v1/datasets/{quote(ref, safe='@')}/findings"
    return Request("GET", path, lambda answer: from_plain(answer, CheckSummary))


def remove_dataset(ref: str) -> Request[list[str]]:
    return Request("DELETE", f"/v1/datasets/{quote(ref, safe='@')}", _parse_removed)


def import_dataset(
    name: str, data: Data, task: str | None, options: Mapping[str, Json] | None, said: Mapping[str, str | None]
) -> Request[Process]:
    body = {"name": name, "data": to_plain(data), "task": task, "options": dict(options or {}) or None, **said}
    given = {key: value for key, value in body.items() if value is not None}
    return Request("POST", "/v1/datasets", process_of, given)


def operate(ref: str, operation: str, args: Mapping[str, Json]) -> Request[Process]:
    given = {key: value for key, value in args.items() if value is not None}
    return Request("POST", f"/v1/datasets/{quote(ref, safe='@')}/{operation}", process_of, given)


def answers_of(source: str | Path) -> str:
    """The absolute path of a file of answers or rules: the daemon runs in another folder. upload:ID unchanged."""
    return str(source) if is_upload(str(source)) else os.path.abspath(os.path.expanduser(source))


def models_of_rules(source: str | Path) -> list[str]:
    """The models of the store that the rules in a file of this machine ask; none of a file that is not here."""
    path = Path(os.path.expanduser(source))
    if is_upload(str(source)) or not path.is_file():
        return []
    return list(read_rules(path.read_text("utf-8-sig", errors="replace"), path.name).models)


def retraining(
    model: str | None, retrain: int | None, base: str | None, settings: Mapping[str, Json]
) -> dict[str, Json]:
    """The arguments of an operation that say which model is trained when enough has come."""
    parts = {key: value for key, value in recipe_parts(settings).items() if value not in ({}, None)}
    return {"model": model, "retrain": retrain, "base": base, "settings": parts or None}


def labelling(ref: str, model: str | None, retrain: int | None) -> Request[LabellingState]:
    query = {key: str(value) for key, value in (("model", model), ("retrain", retrain)) if value}
    return Request("GET", f"/v1/datasets/{quote(ref, safe='@')}/labelling", _one(LabellingState), query=query)


def find_rows(texts: Sequence[str], ids: Sequence[str]) -> Request[Process]:
    return Request("POST", "/v1/find-rows", process_of, {"texts": list(texts), "ids": list(ids)})


def result(pid: int) -> Request[Json]:
    return Request("GET", f"/v1/processes/{pid}/result", lambda answer: answer)


def processes() -> Request[list[Process]]:
    return Request("GET", "/v1/processes", _processes)


def process(pid: int) -> Request[Process]:
    return Request("GET", f"/v1/processes/{pid}", process_of)


def start(
    program: str, args: Json, title: str = "", priority: Priority | str | None = None, device: str | None = None
) -> Request[Process]:
    said = {key: value for key, value in (("priority", priority), ("device", device)) if value is not None}
    return Request("POST", "/v1/processes", process_of, {"program": program, "args": args, "title": title, **said})


def kill(pid: int, *, force: bool) -> Request[Process]:
    return Request("POST", f"/v1/processes/{pid}/kill", process_of, {"force": force})


def suspend(pid: int) -> Request[Process]:
    return Request("POST", f"/v1/processes/{pid}/suspend", process_of)


def resume(pid: int) -> Request[Process]:
    return Request("POST", f"/v1/processes/{pid}/resume", process_of)


def nice(pid: int, priority: Priority | str) -> Request[Process]:
    return Request("POST", f"/v1/processes/{pid}/nice", process_of, {"priority": priority})


def pull(
    source: str,
    name: str | None,
    base: str | None = None,
    dtype: str | None = None,
    max_drop: float | None = None,
    **also: Json,
) -> Request[Process]:
    """The request for a pull. `also` are engine, task and labels; those that are None are left out."""
    path = Path(source).expanduser()
    is_here = ":" not in source and (
        path.is_dir() or path.suffix in (".gguf", ".onnx") or source.startswith((".", "/", "~"))
    )
    body: dict[str, Json] = {"source": str(path.absolute()) if is_here else source, "name": name, "base": base}
    said = {"dtype": dtype, "max_drop": max_drop, **also}
    body |= {key: value for key, value in said.items() if value is not None}
    return Request("POST", "/v1/models/pull", process_of, body)


def train(recipe: Recipe, device: str | None = None) -> Request[Process]:
    return start("train", to_plain(recipe), f"train {recipe.name}", device=device)


def tune(
    recipe: Recipe, budget: str | None, methods: Sequence[str] | None, sampler: str | None, device: str | None
) -> Request[Process]:
    said = {"budget": budget, "methods": list(methods or ()) or None, "sampler": sampler}
    args = to_plain(recipe) | {key: value for key, value in said.items() if value is not None}
    return start("tune", args, device=device)


def leaderboard(pid: int) -> Request[Leaderboard]:
    return Request("GET", f"/v1/processes/{pid}/result", lambda answer: from_plain(answer, Leaderboard))


def evaluate(
    model: str,
    data: Data,
    device: str | None = None,
    dtype: str | None = None,
    task: str | None = None,
    options: Mapping[str, Json] | None = None,
    engine: str | None = None,
) -> Request[Process]:
    said = {"dtype": dtype, "task": task, "options": dict(options or {}) or None, "engine": engine}
    args = {"model": model, "data": to_plain(data)}
    args |= {key: value for key, value in said.items() if value is not None}
    return start("evaluate", args, f"evaluate {model}", device=device)


def quantize(model: str, data: Data | None, max_drop: float | None) -> Request[Process]:
    said = {"data": None if data is None else to_plain(data), "max_drop": max_drop}
    args = {"model": model, **{key: value for key, value in said.items() if value is not None}}
    return start("quantize", args, f"quantize {model}")


def shrink(
    base: str,
    layers: int | str | Sequence[int] | None,
    static: bool,
    dimensions: int | None,
    neighbours: int | None,
    name: str | None,
) -> Request[Process]:
    kept = layers if layers is None or isinstance(layers, int | str) else ",".join(map(str, layers))
    said = {"layers": kept, "static": static or None, "dimensions": dimensions, "neighbours": neighbours, "name": name}
    args = {"base": base, **{key: value for key, value in said.items() if value is not None}}
    return start("shrink", args, f"shrink {base}")


def adapt(
    base: str, data: str | Path | Data, general: str | Path | None, device: str | None, settings: Mapping[str, Json]
) -> Request[Process]:
    """The request for an adaptation; of the settings, those of `Data` say how texts are read."""
    reading = {one.name for one in fields(Data)}
    rows = data_of(data, **{key: value for key, value in settings.items() if key in reading})
    plain = {key: value for key, value in to_plain(rows).items() if value is not None}
    said = {key: value for key, value in settings.items() if key not in reading}
    said |= {"general": None if general is None else _absolute(str(general))}
    args = {"base": base, "data": plain, **{key: value for key, value in said.items() if value is not None}}
    return start("adapt", args, f"adapt {base}", device=device)


def inputs_of(given: Json) -> tuple[list[Json], bool]:
    """The inputs as a list, and whether there was only one; BadInput for values that cannot be inputs."""
    if isinstance(given, str | Mapping):
        return [given], True
    if isinstance(given, Sequence) and not isinstance(given, bytes | bytearray):
        return list(given), False
    raise BadInput(f"inputs is {given!r}. Give one input (a text, or a dict), or a list of them", key="inputs")


def call_options(
    timeout_s: float | None, priority: Priority | str | None, engine: str | None, params: dict[str, Json]
) -> dict[str, Json]:
    """The body's fields `timeout_s`, `priority` and `engine`.

    `klass`, the earlier name of `priority`, is taken out of `params`.
    """
    said = {"timeout_s": timeout_s, "priority": params.pop("klass", None) or priority, "engine": engine}
    return {key: value for key, value in said.items() if value is not None}


def run(
    task: str | None,
    model: str,
    inputs: Sequence[Json],
    params: Mapping[str, Json],
    asked: Mapping[str, Json] | None = None,
) -> Request[list[Result]]:
    """The request for a call, to this task or to the model's own; `asked` is the result of `call_options`."""

    def read(answer: Json) -> list[Result]:
        return [result_of(answer["task"], output) for output in answer["outputs"]]

    spec = None if task is None else find_spec(task)  # the daemon may know a task that is not installed here
    said = {**params, "encoding": "base64"} if spec is not None and spec.gives_vectors else dict(params)
    body = {"model": model, "inputs": list(inputs), "params": said, **(asked or {})}
    return Request("POST", "/v1/run" if task is None else f"/v1/tasks/{task}", read, body)


def outputs(
    task: str, model: str, inputs: Sequence[Json], params: Mapping[str, Json], asked: Mapping[str, Json]
) -> Request[list[Json]]:
    """The same for this task, with the outputs as HTTP has them."""
    body = {"model": model, "inputs": list(inputs), "params": dict(params), **asked}
    return Request("POST", f"/v1/tasks/{task}", lambda answer: list(answer["outputs"]), body)


def chat_body(
    model: str, messages: str | Sequence[Mapping[str, Json]], params: Mapping[str, Json], asked: Mapping[str, Json]
) -> Json:
    """The body of a streamed chat; a plain text is one message of the user."""
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    return generate_body(model, {"messages": said}, params, asked)


def generate_body(model: str, given: Json, params: Mapping[str, Json], asked: Mapping[str, Json]) -> Json:
    """The body of one streamed answer; `asked` is the result of `call_options`."""
    return {"model": model, "input": given, "params": one_answer(params), "stream": True, **asked}


def one_answer(params: Mapping[str, Json]) -> dict[str, Json]:
    """These params; BadInput if they ask for several answers, because a stream returns one."""
    if isinstance(params.get("n"), int) and params["n"] > 1:
        raise BadInput(
            f"n is {params['n']}, and this gives one answer. Send a list: run(model, [text], n=...)", key="n"
        )
    return dict(params)


PARTS = {"task", "name", "base", "data", "options", "lora", "method_settings", "objective_settings"}
RECIPE_KEYS = {f.name for f in fields(Recipe)} - PARTS
DATA_KEYS = {f.name for f in fields(Data)}
LORA_KEYS = {f.name for f in fields(Lora)}


def recipe(task: str, name: str, base: str | None, data: str | Path | Data, settings: Mapping[str, Json]) -> Recipe:
    """The recipe with these settings: each belongs to data, method (`rank` ...), LoRA (`lora_rank` ...), objective
    (`beta` ...) or run.

    All others must be options of the task (`multi_label`, `max_tokens` ...).
    """
    parts = recipe_parts(settings)
    plain = {**parts, "task": task, "name": name, "base": base or starter(task), "data": _data(data, parts["data"])}
    return from_plain(plain, Recipe)


def recipe_parts(settings: Mapping[str, Json]) -> dict[str, Json]:
    """These settings, each in the part of a recipe that it belongs to; BadSetting for one that belongs to none."""
    given = {key: value for key, value in settings.items() if value is not None}
    read = {key: given.pop(key) for key in DATA_KEYS & given.keys()}
    lora = {key: given.pop(f"lora_{key}") for key in LORA_KEYS if f"lora_{key}" in given}
    run = {key: given.pop(key) for key in RECIPE_KEYS & given.keys()}
    if ":" in str(run.get("track") or ""):  # a folder of this machine, and the daemon runs in another one
        tracker, _, folder = str(run["track"]).partition(":")
        run["track"] = f"{tracker}:{os.path.abspath(os.path.expanduser(folder))}"
    own = {**given.pop("method_settings", {}), **{key: given.pop(key) for key in setting_names() & given.keys()}}
    of_objective = objective_settings()
    aims = {**given.pop("objective_settings", {}), **{key: given.pop(key) for key in of_objective & given.keys()}}
    known_options = recipe_options()
    options = {**given.pop("options", {}), **{key: given.pop(key) for key in known_options & given.keys()}}
    for key in given:
        own_names = setting_names() | of_objective | {f"lora_{one}" for one in LORA_KEYS}
        known = sorted(RECIPE_KEYS | DATA_KEYS | known_options | own_names)
        close = get_close_matches(key, known)
        names = ", ".join(close or known)
        said = f"{'Near' if close else 'There are'}: {names}"
        raise BadSetting(
            f"No setting {key!r} in a recipe. {said}", key=key, value=given[key], expected=names, near=names
        )
    return {
        "data": read,
        "lora": lora,
        "options": options,
        "method_settings": own,
        "objective_settings": aims,
        **run,
    }


def data_of(data: str | Path | Data, **settings: Json) -> Data:
    """The data's source with absolute paths, because the daemon runs in another folder."""
    return from_plain(_data(data, {key: value for key, value in settings.items() if value is not None}), Data)


def _data(data: str | Path | Data, read: Mapping[str, Json]) -> Json:
    plain: dict[str, Json] = to_plain(data) if isinstance(data, Data) else {"train": str(data)}
    plain |= {key: str(value) if isinstance(value, Path) else value for key, value in read.items()}
    return plain | {key: _absolute(plain[key]) for key in ROW_FILES if plain.get(key)}


def _absolute(source: str) -> str:
    """The absolute path of an existing file or folder, with its part; a dataset or an uploaded file unchanged."""
    if is_upload(source):
        return source
    named, part = split_part(os.path.expanduser(source))
    path = Path(named)
    if path.exists():
        return f"{path.absolute()}:{part}" if part else str(path.absolute())
    name, at, version = source.partition("@")
    if at and version.isdecimal() and "/" not in name:
        return source
    raise BadInput(
        f"No file {source!r} in {Path.cwd()}. Give a path to labelled rows, a dataset with its version (such as "
        f"{Path(name).stem or 'name'}@1; `llmos data ls` lists them) or an uploaded file (upload:ID)",
        file=str(source),
    )
