"""A dataset from its file to a model: imported, split, trained and measured on, edited, compared and found again."""

import random

import pytest

from llmos.abi.error import LlmosError

pytestmark = pytest.mark.acceptance

WORDS = {"praise": "lovely fine great quick kind warm", "blame": "broken late rude lost wrong cold"}


def rows(folder, name, changes=()):
    """Two labels told apart by their words, with a customer beside; `changes` are lines instead of others."""
    chance = random.Random(5)
    lines = ["text,label,customer"]
    for i in range(96):
        label = sorted(WORDS)[i % 2]
        words = chance.sample(WORDS[label].split(), 2)
        lines.append(f"the {words[0]} parcel number {i} was {words[1]},{label},c{i // 6}")
    for at, line in changes:
        lines[at] = line
    (folder / name).write_text("\n".join(lines))
    return folder / name


def test_a_dataset_is_imported_split_trained_on_measured_edited_compared_and_found(minilm, tmp_path):
    name, model = "parcels", "parcel-mood"
    made = minilm.json("data", "import", str(rows(tmp_path, "one.csv")), "--name", name, "--group", "customer")
    assert made["made"] == [f"{name}@1"]
    again = minilm.json("data", "import", str(rows(tmp_path, "one.csv")), "--name", name, "--group", "customer")
    assert again["progress"]["message"].startswith(f"{name}@1:"), "the same rows are the same version"
    minilm.json("data", "split", f"{name}@1", "--test", "0.25", "--validation", "0.25")
    shown = minilm.json("data", "show", name)
    assert (shown["ref"], shown["parents"], [*shown["splits"]]) == (
        f"{name}@2",
        [f"{name}@1"],
        ["train", "validation", "test"],
    )
    out = tmp_path / "out.jsonl"
    written = minilm.json("data", "export", name, "--format", "doccano", "--split", "all", "--out", str(out))
    assert (written["rows"], len(out.read_text().splitlines())) == (96, 96)
    with minilm.client() as box, pytest.raises(LlmosError):
        box.export_dataset(name, out, format="csv", split="all")
    splits = {row["split"] for row in shown["rows"]}
    assert splits == {"train", "validation", "test"}

    trained = minilm.json("train", "classify", "--data", f"{name}@2", "--name", model, "--epochs", "2")
    assert f"{model}:1" in trained["made"]
    with minilm.client() as box:
        kept = box.dataset(f"{model}@1")
        assert (kept.splits, kept.parents, kept.extras) == (shown["splits"], (f"{name}@2",), {"customer": 96})
        assert kept.provenance["leaks"] == []
        measured = box.evaluate(f"{model}:1", data=f"{name}@2")
        assert measured.progress.total == shown["splits"]["test"]
        assert f"{name}@2" in measured.progress.message
        assert box.diff_datasets(f"{name}@2", f"{model}@1")["same"] == 96

    first = (tmp_path / "one.csv").read_text().splitlines()[1].replace(",blame,", ",praise,")
    changes = [(1, first), (5, "an entirely new row,praise,c0")]
    minilm.json("data", "import", str(rows(tmp_path, "two.csv", changes)), "--name", name)
    found = minilm.json("data", "diff", f"{name}@1", name)
    kinds = ("added", "removed", "changed", "moved")
    assert [found[kind]["count"] for kind in kinds] == [1, 1, 1, 0]
    places = {row["dataset"] for row in minilm.json("data", "find", "AN entirely  new row")["rows"]}
    assert places == {f"{name}@3"}
    removed = minilm.json("data", "rm", f"{name}@1")
    assert (removed["removed"], removed["models"]) == ([f"{name}@1"], [f"{model}:1"])


def test_bad_imports_say_what_to_do_and_leave_nothing(minilm, tmp_path):
    (tmp_path / "bad.csv").write_text("text,label\nfine,a\n,b\nalso fine,\n")
    with minilm.client() as box:
        for settings, code in (({}, "bad_row"), ({"group": "author"}, "bad_input"), ({"task": "tag"}, "bad_input")):
            with pytest.raises(LlmosError) as raised:
                box.import_dataset(tmp_path / "bad.csv", name="bad", **{"task": "classify", **settings})
            assert raised.value.code == code
        assert [one.ref for one in box.datasets() if one.name == "bad"] == []
        box.import_dataset(tmp_path / "bad.csv", name="bad", task="classify", on_bad_row="skip")
        assert box.dataset("bad").provenance["sources"]["train"]["rows"] == 1
