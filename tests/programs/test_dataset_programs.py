"""Programs of datasets: files in, versions out, each with what made it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from llmos.abi.disagreement import Disagreement
from llmos.abi.disagreement_file import add_rows, open_disagreements
from llmos.abi.error import BadInput, BadRow
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest, Offer
from llmos.abi.row_id import RowHmac, fold_text
from llmos.abi.wire import from_plain
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.labelling.disagreements import disagreement_rows
from llmos.programs import (
    augment_data,
    diff_data,
    export_data,
    find_rows,
    import_data,
    label_data,
    merge_data,
    sample_data,
    split_data,
)
from llmos.testing.daemon import beside
from llmos.testing.errors import fails_with

KEY = "6b" * 32
LABELS = ("billing", "repair", "shipping")


def tickets(folder: Path, count: int = 60, first: int = 0, name: str = "tickets.csv") -> Path:
    """Rows with a customer and a date beside text and label."""
    lines = [
        f"ticket number {i} is about this,{LABELS[i % 3]},c{i // 4},2026-01-{1 + i % 28:02}"
        for i in range(first, first + count)
    ]
    path = folder / name
    path.write_text("\n".join(["text,label,customer,date", *lines]))
    return path


class Shop:
    """Runs programs of datasets one after another, on what the earlier ones have made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests: dict[str, DatasetManifest] = {}
        self.folders: dict[str, str] = {}
        self.models: dict[str, ModelPath] = {}
        self.pid = 0
        self.message = ""  # of the last program

    def run(self, program: ModuleType, **args: Json) -> Offer | Json:
        """The offer of the new version, which is kept; else what was found."""
        self.pid += 1
        scratch = self.folder / str(self.pid)
        scratch.mkdir()
        stored = {"datasets": self.folders, "manifests": self.manifests, "models": self.models}
        job = Job(self.pid, "", args, str(scratch), row_key=KEY, **stored)
        daemon, channel, close = beside()
        try:
            program.main(channel, job)
        finally:
            close()
        self.message = daemon.progress[-1].message
        if not daemon.offers:
            return json.loads((scratch / "reports" / "result.json").read_text())
        (offer,) = daemon.offers
        plain = {**offer.draft, "name": offer.name, "version": self.pid, "files": ()}
        manifest = from_plain(plain, DatasetManifest)
        self.manifests[manifest.ref], self.folders[manifest.ref] = manifest, offer.folder
        return offer

    def rows(self, ref: str, split: str) -> list[str]:
        """The ids of a split."""
        reader = DatasetReader(Path(self.folders[ref]), self.manifests[ref])
        return [row.id for row in reader.rows(split)]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.run(import_data, name="tickets", data=str(tickets(tmp_path)), group="customer", license="CC0")
    return made


def test_an_import_notes_the_rows_that_are_also_in_an_earlier_split(tmp_path: Path):
    shop = Shop(tmp_path)
    test = tickets(tmp_path, 9, 57, "test.csv")  # of which the first three are training rows
    shop.run(import_data, name="tickets", data={"train": str(tickets(tmp_path)), "test": str(test)})
    manifest = shop.manifests["tickets@1"]
    assert manifest.provenance["sources"]["test"]["leaks"] == 3
    assert "leaks" not in manifest.provenance["sources"]["train"]
    assert [note for note in manifest.notes if note.startswith("test: 3 of 9")]


def test_an_import_keeps_rows_columns_counts_and_where_they_are_from(shop: Shop):
    manifest = shop.manifests["tickets@1"]
    assert (manifest.task, manifest.splits, manifest.license) == ("classify", {"train": 60}, "CC0")
    assert manifest.label_counts == {"train": dict.fromkeys(LABELS, 20)}
    assert manifest.extras == {"customer": 60, "date": 60}
    assert manifest.options == {"group": "customer"}
    assert manifest.provenance["operation"] == {"operation": "import"}
    assert manifest.provenance["sources"]["train"]["rows"] == 60
    assert "left_out" not in manifest.provenance["sources"]["train"]


def test_a_file_whose_rows_were_shuffled_gives_the_same_ids(shop: Shop, tmp_path: Path):
    lines = tickets(tmp_path).read_text().splitlines()
    (tmp_path / "shuffled.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    shop.run(import_data, name="again", data=str(tmp_path / "shuffled.csv"))
    assert sorted(shop.rows("again@2", "train")) == sorted(shop.rows("tickets@1", "train"))


def test_all_bad_rows_of_all_files_are_found_in_one_import(shop: Shop, tmp_path: Path):
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("text,label\na b,x\n,y\nc d,\ne f,y\n")
    data = {"train": str(tmp_path / "one.csv"), "test": str(tmp_path / "two.csv")}
    with pytest.raises(BadRow) as raised:
        shop.run(import_data, name="bad", task="classify", data=data)
    assert raised.value.detail["count"] == 4
    offer = shop.run(import_data, name="bad", task="classify", data={**data, "on_bad_row": "skip"})
    assert isinstance(offer, Offer)
    assert offer.draft["splits"] == {"train": 2, "test": 2}
    assert sum(offer.draft["provenance"]["sources"]["train"]["skipped"].values()) == 2


def test_rows_without_labels_are_a_split_that_operations_leave_alone(shop: Shop, tmp_path: Path):
    (tmp_path / "raw.txt").write_text("ticket number 3 is about this\nnobody knows this one\n")
    data = {"train": str(tickets(tmp_path)), "unlabelled": str(tmp_path / "raw.txt")}
    shop.run(import_data, name="both", task="classify", data=data)
    both = f"both@{shop.pid}"
    manifest = shop.manifests[both]
    assert manifest.splits == {"train": 60, "unlabelled": 2}
    assert manifest.provenance["sources"]["unlabelled"]["rows"] == 2
    assert set(manifest.label_counts) == {"train"}
    raw = shop.rows(both, "unlabelled")
    shop.run(split_data, data=both, name="both", test=0.2, validation=0.0, again=True)
    assert shop.rows(f"both@{shop.pid}", "unlabelled") == raw
    shop.run(sample_data, data=both, name="some", n=6, balance=True)
    assert shop.manifests[f"some@{shop.pid}"].splits == {"train": 6}
    assert shop.run(export_data, data=both, format="csv", split="all")["rows"] == 60
    assert not [note for note in manifest.notes if "looks better" in note]  # nothing is measured on them
    assert shop.run(export_data, data=both, format="csv", split="unlabelled")["rows"] == 2
    shop.run(import_data, name="raw", task="classify", data={"train": "", "unlabelled": str(tmp_path / "raw.txt")})
    pool = f"raw@{shop.pid}"
    shop.run(merge_data, data=pool, others=["tickets@1"], name="joined")
    assert shop.manifests[f"joined@{shop.pid}"].splits == {"train": 60, "unlabelled": 1}
    with pytest.raises(BadInput) as raised:
        shop.run(import_data, name="raw", data={"train": "", "unlabelled": str(tmp_path / "raw.txt")})
    assert raised.value.detail["key"] == "task"


def test_answers_put_rows_among_the_labelled_ones_and_leave_their_ids(shop: Shop, tmp_path: Path):
    (tmp_path / "raw.txt").write_text("first of all\nsecond of all\nthird of all\n")
    data = {"train": str(tickets(tmp_path)), "unlabelled": str(tmp_path / "raw.txt")}
    shop.run(import_data, name="both", task="classify", data=data)
    both = f"both@{shop.pid}"
    one, two, three = shop.rows(both, "unlabelled")
    told = [
        (one, "billing", "ada"),
        (one, "repair", "bob"),
        (two, None, "ada"),
        (one, "billing", "eve"),
        (three, "new", "ada"),
    ]
    said = tmp_path / "answers.jsonl"
    said.write_text("\n".join(json.dumps({"id": id, "value": value, "by": by}) for id, value, by in told))
    offer = shop.run(label_data, data=both, name="both", answers=str(said))
    assert isinstance(offer, Offer)
    made = f"both@{shop.pid}"
    assert shop.manifests[made].splits == {"train": 62, "unlabelled": 1}
    assert shop.rows(made, "train")[-2:] == [one, three]
    assert shop.rows(made, "unlabelled") == [two]
    assert "new" in shop.manifests[made].labels
    operation = offer.draft["provenance"]["operation"]
    assert operation["by"] == ["ada", "bob", "eve"]
    assert (operation["labelled"], operation["passed over"], operation["answered_twice"]) == (2, 1, 1)
    said.write_text(json.dumps({"id": "0" * 16, "value": "billing"}))
    with pytest.raises(BadInput) as raised:
        shop.run(label_data, data=made, name="both", answers=str(said))
    assert raised.value.detail["ids"] == ["0" * 16]


def test_a_column_to_group_by_must_be_there(shop: Shop, tmp_path: Path):
    with pytest.raises(BadInput) as raised:
        shop.run(import_data, name="some", data=str(tickets(tmp_path)), group="author")
    assert raised.value.detail["expected"] == ["customer", "date"]


def test_a_split_keeps_every_row_once_and_parts_no_group(shop: Shop):
    shop.run(split_data, data="tickets@1", name="tickets", test=0.2, validation=0.2)
    manifest = shop.manifests["tickets@2"]
    parts = [shop.rows("tickets@2", split) for split in ("train", "validation", "test")]
    assert sorted(id for part in parts for id in part) == sorted(shop.rows("tickets@1", "train"))
    assert (manifest.parents, manifest.license) == (("tickets@1",), "CC0")
    assert manifest.provenance["operation"]["group"] == "customer"
    reader = DatasetReader(Path(shop.folders["tickets@2"]), manifest)
    groups = [{row.extra["customer"] for row in reader.rows(split)} for split in reader.splits]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])


def test_a_split_by_time_says_how_many_rows_are_of_parted_groups(tmp_path: Path):
    shop = Shop(tmp_path)
    lines = [f"ticket number {i} is about this,{LABELS[i % 3]},c{i % 4},2026-01-{1 + i:02}" for i in range(20)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,customer,date", *lines]))
    for group in (None, "customer"):
        shop.run(import_data, name="rows", data=str(tmp_path / "rows.csv"), time="date", group=group)
        shop.run(split_data, data=f"rows@{shop.pid}", name="rows", test=0.1, validation=0.0)
        assert shop.manifests[f"rows@{shop.pid}"].splits == {"train": 18, "test": 2}
        assert shop.manifests[f"rows@{shop.pid}"].options.get("group") == group
        assert ("10 rows are of a customer" in shop.message) == bool(
            group
        )  # both customers of the test rows, five each


def test_an_export_of_all_splits_says_that_the_file_has_none(shop: Shop):
    assert "split" not in shop.run(export_data, data="tickets@1", format="csv", split="all")["loses"]
    shop.run(split_data, data="tickets@1", name="tickets")
    parted = f"tickets@{shop.pid}"
    assert "split" in shop.run(export_data, data=parted, format="csv", split="all")["loses"]
    assert "split" not in shop.run(export_data, data=parted, format="csv", split="test")["loses"]


def test_splits_that_are_there_stay_unless_all_is_split_again(shop: Shop):
    shop.run(split_data, data="tickets@1", name="tickets", test=0.2, validation=0.0)
    shop.run(split_data, data="tickets@2", name="tickets", test=0.2, validation=0.2)
    assert shop.rows("tickets@3", "test") == shop.rows("tickets@2", "test")
    with pytest.raises(BadInput) as raised:
        shop.run(split_data, data="tickets@3", name="tickets", test=0.2, validation=0.2)
    assert raised.value.detail["key"] == "again"
    shop.run(split_data, data="tickets@3", name="tickets", time="date", again=True, test=0.2, validation=0.2)
    (last,) = [ref for ref in shop.manifests if ref.startswith("tickets@5")]
    reader = DatasetReader(Path(shop.folders[last]), shop.manifests[last])
    dates = {split: [row.extra["date"] for row in reader.rows(split)] for split in reader.splits}
    assert max(dates["train"]) < min(dates["validation"]) <= max(dates["validation"]) < min(dates["test"])


def test_a_merge_a_sample_and_a_difference_of_them(shop: Shop, tmp_path: Path):
    shop.run(import_data, name="more", data=str(tickets(tmp_path, 30, 45, "more.csv")))
    shop.run(merge_data, data="tickets@1", others=["more@2"], name="all")
    assert shop.manifests["all@3"].splits == {"train": 75}
    assert shop.manifests["all@3"].provenance["operation"]["again"] == 15
    shop.run(sample_data, data="all@3", name="some", n=15, balance=True)
    assert shop.manifests["some@4"].label_counts == {"train": dict.fromkeys(LABELS, 5)}
    assert set(shop.rows("some@4", "train")) <= set(shop.rows("all@3", "train"))
    found = shop.run(diff_data, data="tickets@1", other="all@3")
    assert (found["added"]["count"], found["removed"]["count"], found["same"]) == (15, 0, 60)
    assert set(found["added"]["ids"]) <= set(shop.rows("more@2", "train"))
    assert found["labels"]["billing"] == {"before": 20, "after": 25}


def test_a_row_is_found_in_every_dataset_by_its_id(shop: Shop):
    shop.run(split_data, data="tickets@1", name="tickets")
    (wanted, *_) = shop.rows("tickets@2", "test")
    found = shop.run(find_rows, ids=[wanted])
    assert [(row["dataset"], row["split"], row["id"]) for row in found["rows"]] == [
        ("tickets@1", "train", wanted),
        ("tickets@2", "test", wanted),
    ]


def test_an_augmented_version_has_every_row_and_its_copies_say_of_what_they_are(shop: Shop):
    shop.run(split_data, data="tickets@1", name="tickets", validation=0.2, test=0.2)
    before = DatasetReader(Path(shop.folders["tickets@2"]), shop.manifests["tickets@2"])
    parents = {row.id: row for row in before.rows("train")}
    made = shop.run(augment_data, data="tickets@2", name="tickets", by="swap,delete", copies=2, seed=3)
    assert isinstance(made, Offer)
    manifest = shop.manifests["tickets@3"]
    after = DatasetReader(Path(shop.folders["tickets@3"]), manifest)
    for split in ("validation", "test"):
        assert list(after.rows(split)) == list(before.rows(split))
    rows = list(after.rows("train"))
    assert rows[: len(parents)] == list(parents.values())
    copies = rows[len(parents) :]
    assert len({row.id for row in rows}) == len(rows)
    assert len(copies) == sum(manifest.provenance["operation"]["counts"].values()) > len(parents)
    for copy in copies:
        assert copy.origin is not None
        (parent,) = (parents[one] for one in copy.origin["parents"])
        assert (copy.origin["by"] in ("swap", "delete"), copy.origin["seed"]) == (True, 3)
        assert (copy.row.labels, copy.extra) == (parent.row.labels, parent.extra)
        assert copy.row.input != parent.row.input
    held = {row.row.input["text"] for split in ("validation", "test") for row in after.rows(split)}
    assert not held & {row.row.input["text"] for row in copies}


def test_the_same_augmentation_gives_the_same_rows(shop: Shop):
    one, two = (shop.run(augment_data, data="tickets@1", name="more", by="insert", share=0.5) for _ in range(2))
    assert isinstance(one, Offer)
    assert isinstance(two, Offer)
    assert one.draft["provenance"]["digest"] == two.draft["provenance"]["digest"]


def test_only_rows_of_named_labels_are_copied_and_balance_repeats_rows(shop: Shop):
    made = shop.run(augment_data, data="tickets@1", name="more", by="swap", only_labels=["repair"])
    assert isinstance(made, Offer)
    assert made.draft["label_counts"]["train"]["repair"] > 30
    assert made.draft["label_counts"]["train"]["billing"] == 20
    again = shop.run(augment_data, data="more@2", name="even", balance=True)
    assert isinstance(again, Offer)
    assert len(set(again.draft["label_counts"]["train"].values())) == 1


def test_an_export_is_a_file_with_its_digest_and_what_it_loses(shop, tmp_path):
    shop.run(import_data, name="tickets", data=str(tickets(tmp_path)), task="classify")
    found = shop.run(export_data, data="tickets@1", format="one-hot")
    file = tmp_path / str(shop.pid) / "reports" / "export"
    assert file.read_text().splitlines()[0] == '"text","billing","repair","shipping"'
    assert (found["rows"], found["size_bytes"], found["name"]) == (60, file.stat().st_size, "tickets-1.csv")
    assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["loses"]
    with fails_with(BadInput, key="format"):
        shop.run(export_data, data="tickets@1", format="conll")


def disputed(shop: Shop, *texts: str) -> dict[str, str]:
    """Texts on which versions of `support` disagreed, in the file; their ids by text."""
    hmac = RowHmac(bytes.fromhex(KEY))
    ids = {text: hmac.id_of(fold_text(text)) for text in texts}
    answers: dict[str, Json] = {"support:1": "repair", "support:2": "billing"}
    with open_disagreements(shop.folder / "disagreements.db") as database:
        rows = [
            Disagreement(0, 1.0, "support", "classify", ids[text], text, answers, "r1", "shadow", "req_1", user="ann")
            for text in texts
        ]
        add_rows(database, rows)
    return ids


def answered(shop: Shop, values: dict[str, Json]) -> str:
    file = shop.folder / "answers.jsonl"
    file.write_text("\n".join(json.dumps({"id": row, "value": value, "by": "ada"}) for row, value in values.items()))
    return str(file)


def test_answers_to_disagreements_become_rows_that_say_where_they_are_from(shop: Shop):
    known = "ticket number 3 is about this"
    ids = disputed(shop, "my bill is wrong", "nobody knows this", known)
    said = answered(shop, {ids["my bill is wrong"]: "billing", ids["nobody knows this"]: None})
    of = {"disagreements": "support", "disagreements_file": str(shop.folder / "disagreements.db")}
    shop.run(label_data, data="tickets@1", answers=said, name="tickets", **of)
    ref = f"tickets@{shop.pid}"
    assert shop.manifests[ref].splits == {"train": 61}
    reader = DatasetReader(Path(shop.folders[ref]), shop.manifests[ref])
    (row,) = [one for one in reader.rows("train") if one.id == ids["my bill is wrong"]]
    assert (row.row.texts, row.row.labels) == (["my bill is wrong"], ("billing",))
    told = row.extra["disagreement"]
    assert (told["rollout"], told["call"], told["answers"]) == (
        "r1",
        "req_1",
        {"support:1": "repair", "support:2": "billing"},
    )
    assert "ann" not in json.dumps(told)


def test_a_dispute_that_was_erased_meanwhile_does_not_lose_the_other_answers(shop: Shop):
    ids = disputed(shop, "my bill is wrong")
    said = answered(shop, {ids["my bill is wrong"]: "billing", "0" * 16: "repair"})
    of = {"disagreements": "support", "disagreements_file": str(shop.folder / "disagreements.db")}
    shop.run(label_data, data="tickets@1", answers=said, name="tickets", **of)
    assert "erased" in shop.message
    assert shop.manifests[f"tickets@{shop.pid}"].splits == {"train": 61}
    with fails_with(BadInput, dataset="tickets@1", ids=["0" * 16]):
        shop.run(label_data, data="tickets@1", answers=answered(shop, {"0" * 16: "repair"}), name="tickets", **of)


def test_answers_that_fit_no_row_are_refused_where_nobody_named_disagreements(shop: Shop):
    ids = disputed(shop, "my bill is wrong")
    of = {"model": "support", "disagreements_file": str(shop.folder / "disagreements.db")}
    said = answered(shop, {ids["my bill is wrong"]: "billing", "0" * 16: "repair"})
    with fails_with(BadInput, dataset="tickets@1", ids=["0" * 16]):
        shop.run(label_data, data="tickets@1", answers=said, name="tickets", **of)
    said = answered(shop, {ids["my bill is wrong"]: "billing"})
    shop.run(label_data, data="tickets@1", answers=said, name="tickets", **of)
    assert shop.manifests[f"tickets@{shop.pid}"].splits == {"train": 61}


def test_disagreements_of_another_task_or_model_are_no_rows(shop: Shop):
    disputed(shop, "my bill is wrong")
    of = {"disagreements": "support", "disagreements_file": str(shop.folder / "disagreements.db")}
    assert len(disagreement_rows(of, "classify", is_multi=False)) == 1
    assert disagreement_rows(of, "tag", is_multi=False) == []
    assert disagreement_rows({**of, "disagreements": "mood"}, "classify", is_multi=False) == []
    assert disagreement_rows({"disagreements": "support"}, "classify", is_multi=False) == []
