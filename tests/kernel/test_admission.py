"""What a child is assigned: what its arguments name, and what the box adds for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import BadInput, BadSetting, Conflict, Unavailable, UploadNotFound, WrongTask
from llmos.abi.model import File, Kind, Manifest, Offer, OfferKind, Part
from llmos.abi.process import Process, Spec
from llmos.abi.upload import uploads_in
from llmos.config import Config
from llmos.kernel.admission import MOST_ARGS_BYTES, admit, assignment, title_with, unreachable_dtypes
from llmos.kernel.programs import declaration_of
from llmos.kernel.programs.declaration import AdmissionFacts
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model, safetensors

CPU = Device("cpu0", "cpu", "A processor", 1 << 30)
DATA = {"train": "/rows.csv"}


def add_dataset(store: Store, home: Path, name: str) -> str:
    folder = home / "scratch" / "800" / "dataset"
    folder.mkdir(parents=True)
    (folder / "train.parquet").write_bytes(b"rows")
    offer = Offer(1, OfferKind.DATASET, name, str(folder), (("train.parquet", Part.OTHER),), {"task": "classify"})
    return store.commit(offer, 800).ref


def test_a_process_whose_programs_package_is_gone_is_not_to_blame(tmp_path: Path) -> None:
    with fails_with(Unavailable, pid=7, program="of another package"):
        assignment(Process(7, Spec("of another package", {})), Store(tmp_path), Config(tmp_path), CPU)


def test_a_trainer_is_given_what_the_promoted_version_has_learned_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    taught = add_dataset(store, tmp_path, "mood")
    add_model(store, "mood", "tiny:1", pid=901, lineage={"dataset": taught})
    store.promote("mood:1")
    process = Process(7, Spec("train", {"name": "mood", "base": "tiny:1", "data": DATA}))
    told = assignment(process, store, Config(tmp_path), CPU)
    assert told.datasets == {taught: str(store.dataset_folder(taught))}
    store.remove_dataset(taught)
    assert assignment(process, store, Config(tmp_path), CPU).datasets == {}


def test_the_hub_s_token_goes_to_a_puller_and_into_no_process_that_is_kept(tmp_path: Path) -> None:
    process = Process(7, Spec("pull", {"source": "hf:a/b"}))
    config = Config(tmp_path, hub_token="secret")
    assert assignment(process, Store(tmp_path), config, CPU).args["token"] == "secret"
    assert "token" not in process.spec.args
    assert "token" not in assignment(process, Store(tmp_path), replace(config, hub_token=""), CPU).args


def test_an_evaluation_keeps_its_report_where_it_outlives_the_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    process = Process(7, Spec("evaluate", {"model": "tiny:1", "data": DATA}))
    assert assignment(process, store, Config(tmp_path), CPU).args["reports"] == str(tmp_path / "evaluations" / "7")


def test_an_evaluation_of_a_task_that_the_engine_does_not_do_is_refused_at_once(tmp_path: Path) -> None:
    facts = AdmissionFacts(Store(tmp_path))
    options = {"engine": "llamacpp", "tasks": ["generate", "chat"]}
    model = Manifest("words", 1, Kind.BASE, "chat", (File("a.gguf", "0" * 64, 1, Part.WEIGHTS),), options=options)
    spec = Spec("evaluate", {"model": "words:1", "data": "rows@1", "task": "summarize"})
    with fails_with(WrongTask, model="words:1", task="summarize", has=["generate", "chat"]):
        declaration_of("evaluate").check(spec, model, facts)


def test_one_file_of_weights_may_be_pulled_as_well_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    spec, _ = admit(Spec("pull", {"source": str(tmp_path / "small.gguf")}), Store(tmp_path), 0)
    assert spec.title == f"pull {tmp_path / 'small.gguf'}"


def add_int8(store: Store, home: Path, like: str) -> str:
    """A version with the files of that one, served in int8."""
    folder = home / "scratch" / "801"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evidence.json").write_bytes(b"{}")
    files = (("evidence.json", Part.EVIDENCE),)
    draft = {"task": "embed", "dtype": "int8"}
    return store.commit(Offer(11, OfferKind.BASE, "tiny", str(folder), files, draft, like=like), 801).ref


def test_a_version_in_int8_is_served_and_measured_in_it_and_trained_on_in_float(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    in_int8 = add_int8(store, tmp_path, "tiny:1")
    model = add_model(store, "mood", in_int8, pid=902)
    assert model.dtype == "int8"
    config, rows = Config(tmp_path), str(tmp_path / "rows.csv")
    Path(rows).write_text("text,label")
    asked = {
        "serve": Spec("serve", {"base": in_int8}),
        "serve float": Spec("serve", {"base": "tiny:1"}),
        "measure": Spec("evaluate", {"model": model.ref, "data": DATA}),
        "measure in": Spec("evaluate", {"model": model.ref, "data": DATA, "dtype": "float32"}),
        "train": Spec("train", {"name": "mind", "base": in_int8, "task": "classify", "data": {"train": rows}}),
        "quantize": Spec("quantize", {"model": "tiny:1"}),
    }
    told = {name: assignment(Process(7, spec), store, config, CPU) for name, spec in asked.items()}
    assert {name: one.dtype for name, one in told.items()} == {
        "serve": "int8",
        "serve float": "float32",
        "measure": "int8",
        "measure in": "float32",
        "train": "float32",
        "quantize": "float32",
    }
    short = replace(CPU, dtype="bfloat16")
    in_bfloat16 = {name: assignment(Process(7, spec), store, config, short) for name, spec in asked.items()}
    assert {name: one.dtype for name, one in in_bfloat16.items()} == {
        "serve": "int8-bfloat16",
        "serve float": "bfloat16",
        "measure": "int8-bfloat16",
        "measure in": "float32",
        "train": "bfloat16",
        "quantize": "bfloat16",
    }
    in_int8_said = replace(asked["measure in"], args={**asked["measure in"].args, "dtype": "int8"})
    assert assignment(Process(7, in_int8_said), store, replace(config, dtype="bfloat16"), CPU).dtype == "int8-bfloat16"
    assert told["quantize"].models["int8"].manifest.ref == in_int8
    assert told["quantize"].models["promoted"].manifest.ref == "tiny:1"
    spec, _ = admit(asked["train"], store, 0)
    assert (spec.args["base"], spec.args["serve_dtype"]) == ("tiny:1", "int8")
    assert admit(asked["serve"], store, 0)[0].title == f"serve {in_int8} in int8"


def test_int8_forms_beside_a_format_that_no_cpu_here_uses_are_unreachable(tmp_path: Path) -> None:
    config, gpu = Config(tmp_path), replace(CPU, name="cuda0", kind="cuda", dtype="bfloat16", gflops={"bfloat16": 9.0})
    measured = replace(CPU, gflops={"float32": 1.0})
    assert unreachable_dtypes(config, (CPU, gpu)) == set()  # it is not known yet
    assert unreachable_dtypes(config, (measured, gpu)) == {"int8-bfloat16"}
    assert unreachable_dtypes(config, (replace(measured, dtype="bfloat16"), gpu)) == {"int8"}
    assert unreachable_dtypes(replace(config, dtype="bfloat16"), (CPU,)) == {"int8"}
    assert unreachable_dtypes(replace(config, dtype="float32"), (replace(measured, dtype="bfloat16"),)) == {
        "int8-bfloat16"
    }


@pytest.mark.parametrize("program", ["serve", "evaluate"])
def test_int8_on_a_gpu_is_refused(tmp_path: Path, program: str) -> None:
    store = Store(tmp_path)
    add_base(store)
    in_int8 = add_int8(store, tmp_path, "tiny:1")
    spec = Spec(program, {"base": in_int8, "model": in_int8}, device="cuda0")
    with fails_with(BadSetting, key="device", value="cuda0"):
        admit(spec, store, 0)


def test_a_dtype_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    with fails_with(BadSetting, key="dtype", value="int3", expected="float32, bfloat16 or int8"):
        admit(Spec("pull", {"source": "tiny", "dtype": "int3"}), Store(tmp_path), 0)


def test_a_serve_process_is_told_who_computes_and_its_title_says_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    for default, asked, engine, title in (
        ("pytorch", None, "pytorch", "serve tiny:1"),
        ("null", None, "null", "serve tiny:1 with null"),
        ("null", "pytorch", "pytorch", "serve tiny:1"),
    ):
        args = {"base": "tiny"} | ({"engine": asked} if asked else {})
        spec, _ = admit(Spec("serve", args), store, 0, default)
        assert (spec.args["engine"], spec.title) == (engine, title)
    with fails_with(BadInput, key="engine", value="llamacpp", model="tiny:1"):
        admit(Spec("serve", {"base": "tiny", "engine": "llamacpp"}), store, 0)


def test_the_resident_form_counts_for_the_engine_that_computes_from_it_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base = add_base(store, "talk", "chat")
    folder = tmp_path / "scratch" / "902" / "form"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(4096))
    files = (("model.safetensors", Part.WEIGHTS),)
    draft = {"base": base.ref, "dtype": "float32"}
    store.commit(Offer(9, OfferKind.RESIDENT, base.name, str(folder), files, draft), 902)
    for engine, least in (("pytorch", 4 * 4096), ("vllm", 0)):
        spec = Spec("serve", {"base": "talk", "engine": engine})
        _, needs = admit(spec, store, 1 << 20)
        assert (needs[LeaseKind.WEIGHTS] >= 4 * 4096) == (least > 0)


@pytest.mark.parametrize(
    ("args", "detail"),
    [
        ({"source": "minilm", "token": "hf_thissecret1"}, {"key": "token", "reason": "secret"}),
        ({"source": "minilm", "index": "https://me:thissecret1@host/simple"}, {"key": "index", "reason": "password"}),
        ({"source": "s" * 30_000_000}, {"size": ..., "limit": MOST_ARGS_BYTES}),
        ({"source": "s" * 5_000}, {"key": "source"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_that_a_journal_must_not_keep_are_refused_and_not_said_again(tmp_path, args, detail):
    with fails_with(BadInput, **detail) as refused:
        admit(Spec("pull", args), Store(tmp_path), 0)
    assert "thissecret1" not in f"{refused.value.message} {refused.value.detail}"


def test_a_title_is_as_long_as_a_line_of_a_list(tmp_path):
    spec, _ = admit(Spec("pull", {"source": "s" * 4_000}), Store(tmp_path), 0)
    assert len(spec.title) == 200


@pytest.mark.parametrize("program", ["train", "evaluate", "import-data", "quantize"])
def test_an_uploaded_file_is_named_by_its_own_name_wherever_rows_are(tmp_path: Path, program: str) -> None:
    store = Store(tmp_path)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    rows, test = (store.uploads.create(name, 3) for name in ("rows.csv", "a@1.xlsx"))
    args: dict[str, object] = {"data": {"train": rows.ref, "test": f"{test.ref}:Sheet 2"}}
    args |= {"import-data": {"name": "mood"}, "train": {"task": "classify", "name": "new", "base": "tiny:1"}}.get(
        program, {"model": "mood:1"}
    )
    with fails_with(Conflict, upload=rows.id, offset=0, size=3):
        admit(Spec(program, args), store, 0)
    for upload in (rows, test):
        with store.uploads.append(upload.id, 0) as part:
            part.write(b"a,b")
    spec, _ = admit(Spec(program, args), store, 0)
    assert spec.args["data"]["train"] == f"upload:{rows.id}/rows.csv"
    assert spec.args["data"]["test"] == f"upload:{test.id}/a@1.xlsx:Sheet 2"
    assert set(uploads_in(spec.args)) == {rows.id, test.id}
    job = assignment(Process(7, spec), store, Config(tmp_path, host="0.0.0.0", data_roots=(tmp_path / "data",)), CPU)
    assert (job.args["data"], job.uploads) == (spec.args["data"], str(tmp_path / "uploads"))
    store.uploads.remove(test.id)
    with fails_with(UploadNotFound, upload=test.id):
        assignment(Process(7, spec), store, Config(tmp_path), CPU)


def test_a_path_with_an_at_sign_is_no_dataset(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "rows@1.csv").write_text("text,label\na,b\n")
    spec, _ = admit(Spec("import-data", {"name": "mood", "data": str(tmp_path / "rows@1.csv")}), store, 0)
    job = assignment(Process(7, spec), store, Config(tmp_path), CPU)
    assert (job.datasets, job.is_light) == ({}, True)


def test_a_process_is_called_by_what_it_goes_on_with_unless_somebody_has_named_it() -> None:
    args = {"task": "classify", "name": "mood", "number": 0, "active": [0, 1, 2]}
    spec = Spec("trial", args, "trials 0, 1, 2 of classify mood")
    assert title_with(spec, {"rung": 1, "active": [0, 2]}) == "trials 0, 2 of classify mood"
    assert title_with(spec, {"rung": 2, "active": [2]}) == "trial 2 of classify mood"
    assert title_with(replace(spec, title="my search"), {"active": [2]}) == ""
