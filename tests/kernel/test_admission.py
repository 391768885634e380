"""What a child is assigned: what its arguments name, and what the box adds for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmos.abi.device import Device
from llmos.abi.model import Offer, OfferKind, Part
from llmos.abi.process import Process, Program, Spec
from llmos.config import Config
from llmos.kernel.admission import admit, assignment
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

CPU = Device("cpu0", "cpu", "A processor", 1 << 30)
DATA = {"train": "/rows.csv"}


def add_dataset(store: Store, home: Path, name: str) -> str:
    folder = home / "scratch" / "800" / "dataset"
    folder.mkdir(parents=True)
    (folder / "train.parquet").write_bytes(b"rows")
    offer = Offer(1, OfferKind.DATASET, name, str(folder), (("train.parquet", Part.OTHER),), {"task": "classify"})
    return store.commit(offer, 800).ref


def test_a_trainer_is_given_what_the_promoted_version_has_learned_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    taught = add_dataset(store, tmp_path, "mood")
    add_model(store, "mood", "tiny:1", pid=901, lineage={"dataset": taught})
    store.promote("mood:1")
    process = Process(7, Spec(Program.TRAIN, {"name": "mood", "base": "tiny:1", "data": DATA}))
    told = assignment(process, store, Config(tmp_path), CPU)
    assert told.datasets == {taught: str(store.dataset_folder(taught))}
    store.remove_dataset(taught)
    assert assignment(process, store, Config(tmp_path), CPU).datasets == {}


def test_the_hub_s_token_goes_to_a_puller_and_into_no_process_that_is_kept(tmp_path: Path) -> None:
    process = Process(7, Spec(Program.PULL, {"source": "hf:a/b"}))
    config = Config(tmp_path, hub_token="secret")
    assert assignment(process, Store(tmp_path), config, CPU).args["token"] == "secret"
    assert "token" not in process.spec.args
    assert "token" not in assignment(process, Store(tmp_path), replace(config, hub_token=""), CPU).args


def test_an_evaluation_keeps_its_report_where_it_outlives_the_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    process = Process(7, Spec(Program.EVALUATE, {"model": "tiny:1", "data": DATA}))
    assert assignment(process, store, Config(tmp_path), CPU).args["reports"] == str(tmp_path / "evaluations" / "7")


def test_one_file_of_weights_may_be_pulled_as_well_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    spec, _ = admit(Spec(Program.PULL, {"source": str(tmp_path / "small.gguf")}), Store(tmp_path), (), 0)
    assert spec.title == f"pull {tmp_path / 'small.gguf'}"
