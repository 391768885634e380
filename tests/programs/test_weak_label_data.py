"""weak-label-data: rules vote on unlabelled rows, which become training rows that say who voted for what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_dataset_programs import Shop

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest, Offer
from llmos.abi.process import Process, Program, Spec, State
from llmos.abi.weak_labels import answers_name
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.kernel.programs.weak_label_data import answers_referred
from llmos.programs import import_data, split_data, weak_label_data
from llmos.testing.chat_server import chat_server, completion
from llmos.testing.errors import fails_with

RULES = """
rules:
  - name: money
    label: billing
    keywords: [invoice, refund*]
  - name: parcel
    label: shipping
    keywords: [parcel, courier]
  - name: late
    label: shipping
    pattern: 'late'
  - name: never
    label: billing
    keywords: [zebra]
  - {name: section, column: kind, labels: {Money: billing}}
"""
TEXTS = (
    "my invoice is wrong",
    "the parcel is late",
    "where is the courier",
    "refunded twice",
    "hello there",
    "late invoice",
)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    lines = ["text,label"]
    lines += [f"invoice number {at},billing" for at in range(30)] + [f"parcel number {at},shipping" for at in range(30)]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    raw = ["text,kind", *(f"{text},{'Money' if at == 4 else 'Misc'}" for at, text in enumerate(TEXTS))]
    (tmp_path / "raw.csv").write_text("\n".join(raw))
    (tmp_path / "rules.yaml").write_text(RULES)
    made = Shop(tmp_path)
    data = {"train": str(tmp_path / "rows.csv"), "unlabelled": str(tmp_path / "raw.csv")}
    made.run(import_data, name="tickets", task="classify", data=data)
    return made


def test_rows_with_votes_become_training_rows_that_say_who_voted(shop: Shop, tmp_path: Path) -> None:
    offer = shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "rules.yaml"))
    assert isinstance(offer, Offer)
    manifest = shop.manifests["weak@2"]
    left = manifest.splits.get("unlabelled", 0)
    assert manifest.splits["train"] + left == 66
    rows = list(DatasetReader(Path(shop.folders["weak@2"]), manifest).rows("train"))
    by_text = {one.row.input["text"]: one for one in rows}
    parcel = by_text["the parcel is late"]
    assert parcel.row.labels == ("shipping",)
    weak = parcel.extra["weak_label"]
    assert weak["votes"] == {"parcel": "shipping", "late": "shipping"}
    assert sum(weak["probabilities"].values()) == pytest.approx(1, abs=0.001)
    assert weak["probability"] == max(weak["probabilities"].values())
    assert by_text["hello there"].extra["weak_label"]["votes"] == {"section": "billing"}
    assert "weak_label" not in by_text["invoice number 1"].extra
    operation = manifest.provenance["operation"]
    assert (operation["operation"], operation["rows"], operation["no_vote"]) == ("weak-label", 6, 0)
    never = next(one for one in operation["rules"] if one["name"] == "never")
    assert never["votes"] == 0
    assert operation["check"]["split"] == "train"
    assert operation["check"]["accuracy"] == 1.0


def test_no_row_with_a_label_by_rules_is_measured_on(shop: Shop, tmp_path: Path) -> None:
    shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "rules.yaml"))
    shop.run(split_data, data="weak@2", name="weak", test=0.4, validation=0.4)
    manifest = shop.manifests["weak@3"]
    reader = DatasetReader(Path(shop.folders["weak@3"]), manifest)
    by_rules = {split: sum("weak_label" in one.extra for one in reader.rows(split)) for split in manifest.splits}
    assert by_rules.pop("train") == shop.manifests["weak@2"].splits["train"] - 60
    assert set(by_rules.values()) == {0}
    assert manifest.splits["test"] == 24
    (tmp_path / "raw.txt").write_text("my invoice\na parcel\n")
    shop.run(import_data, name="raw", task="classify", data={"train": "", "unlabelled": str(tmp_path / "raw.txt")})
    rules = "rules:\n  - {label: billing, keywords: [invoice]}\n  - {label: shipping, keywords: [parcel]}\n"
    (tmp_path / "two.yaml").write_text(rules)
    shop.run(weak_label_data, data="raw@4", name="raw", rules=str(tmp_path / "two.yaml"))
    with fails_with(BadInput, reason="labels_by_rules"):
        shop.run(split_data, data="raw@5", name="raw")


def test_a_row_keeps_its_id_and_the_threshold_leaves_unsure_rows_unlabelled(shop: Shop, tmp_path: Path) -> None:
    before = set(shop.rows("tickets@1", "unlabelled"))
    shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "rules.yaml"), combine="majority")
    rows = set(shop.rows("weak@2", "train")) | set(shop.rows("weak@2", "unlabelled"))
    assert before <= rows
    shop.run(
        weak_label_data,
        data="tickets@1",
        name="sure",
        rules=str(tmp_path / "rules.yaml"),
        combine="majority",
        least=0.99,
    )
    assert shop.manifests["sure@3"].splits["unlabelled"] >= shop.manifests["weak@2"].splits["unlabelled"]


def test_rules_that_vote_on_nothing_are_refused(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("rules:\n  - {label: billing, keywords: [zebra]}\n")
    with pytest.raises(BadInput) as caught:
        shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "none.yaml"))
    assert caught.value.detail["reason"] == "no_votes"


def test_a_label_that_the_rows_do_not_have_is_refused_unless_the_file_declares_it(shop: Shop, tmp_path: Path) -> None:
    rules = "rules:\n  - {label: greeting, keywords: [hello]}\n  - {label: billing, keywords: [invoice]}\n"
    (tmp_path / "new.yaml").write_text(rules)
    with pytest.raises(BadInput) as caught:
        shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "new.yaml"))
    assert (caught.value.detail["line"], caught.value.detail["value"]) == (2, "greeting")
    (tmp_path / "new.yaml").write_text(f"labels: [billing, greeting, shipping]\n{rules}")
    shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "new.yaml"))
    assert "greeting" in shop.manifests["weak@3"].labels


def test_a_file_that_is_no_utf8_is_refused(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"rules:\n  - {label: billing, keywords: [caf\xe9]}\n")
    with pytest.raises(BadInput) as caught:
        shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "odd.yaml"))
    assert caught.value.detail["file"] == "odd.yaml"


def test_the_version_names_the_answers_of_the_server_that_was_asked(shop: Shop, tmp_path: Path) -> None:
    def answer(body: Json) -> tuple[int, Json]:
        return 200, completion("billing" if "invoice" in str(body["messages"][-1]["content"]) else "shipping")

    with chat_server(answer) as server:
        rule = f"rules:\n  - endpoint: '{server.url}#big'\n    labels: {{billing: money, shipping: parcels}}\n"
        (tmp_path / "asked.yaml").write_text(rule)
        host = server.url.removeprefix("http://").removesuffix("/v1")
        args = {"endpoint_hosts": [host], "asked": str(tmp_path / "asked")}
        shop.run(weak_label_data, data="tickets@1", name="weak", rules=str(tmp_path / "asked.yaml"), **args)
    (file,) = (tmp_path / "asked").iterdir()
    assert shop.manifests["weak@2"].provenance["operation"]["endpoints"] == [file.stem]
    models: list[Manifest] = []
    store: Any = SimpleNamespace(datasets=lambda: list(shop.manifests.values()), manifests=lambda: models)
    assert answers_referred(store, []) == {file.stem}
    at_work = Process(7, Spec(Program("weak-label-data")), State.INTERRUPTED)
    assert answers_referred(store, [at_work]) is None
    teaching = replace(at_work, spec=Spec(Program("train"), {"teacher": "http://models.example/v1#large"}))
    assert answers_referred(store, [teaching]) is None
    taught = replace(at_work, spec=Spec(Program("train"), {"teacher": "mood:1"}))
    assert answers_referred(store, [taught]) == {file.stem}
    assert answers_referred(store, [replace(at_work, state=State.EXITED)]) == {file.stem}
    lineage = {"recipe": {"teacher": "http://models.example/v1#large"}}
    models.append(Manifest("pupil", 1, Kind.MODEL, "classify", (), lineage=lineage))
    assert answers_referred(store, []) == {file.stem, answers_name("http://models.example/v1", "large")}
    del shop.manifests["weak@2"].provenance["operation"]["endpoints"]  # as before such names were noted
    assert answers_referred(store, []) is None
