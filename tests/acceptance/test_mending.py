"""Damage on the disk: each is said with the command that mends it, and that command, as it is said, mends it."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import House, free_port
from stock import Stock, encoder, stocked

from llmos.abi.error import Corrupt
from llmos.abi.model import Part
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base

pytestmark = pytest.mark.acceptance

TEXT = "where is my parcel"


@dataclass(frozen=True)
class Shop(House):
    """A house whose catalog has a tiny encoder."""

    stock: Stock

    def __call__(self, *words, **more):
        return super().__call__(*words, **{**self.stock.settings, **more})

    def done(self, *words):
        """What it printed; it must have gone well."""
        done = super().__call__(*words, **self.stock.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def findings(self):
        """What is not well of the store, as `doctor --deep` asks for it: sentences, and the ways out."""
        with self.client() as box:
            damages = box.verify().damages
        return [f"{one.ref}: {one.message}" for one in damages], "; ".join(
            dict.fromkeys(one.hint for one in damages if one.hint)
        )

    def follow(self, hint):
        """Do as it is told, word for word."""
        for command in hint.replace(", then ", "; ").split("; "):
            first, *words = shlex.split(command)
            if first == "llmos":
                self.done(*words)
            else:
                subprocess.run([first, *words], check=True)


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    pytest.importorskip("torch")
    return stocked(folder := tmp_path_factory.mktemp("stock"), encoder(folder / "model"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory, stock):
    """A daemon with a base from the catalog under a name of its own, and a model that stands on it."""
    home = tmp_path_factory.mktemp("damage") / "home"
    home.mkdir()
    shop = Shop(home, free_port(), stock)
    rows = home.parent / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"parcel {i} was {('late', 'kind')[i % 2]},{i % 2}\n" for i in range(24)))
    try:
        shop.done("up")
        shop.done("pull", "tiny", "--name", "base")
        train = ("train", "classify", "--data", str(rows), "--name", "mood", "--base", "base", "--epochs", "1")
        shop.done(*train, "--method", "lora")
        yield shop
    finally:
        shop("down")


def answers(shop):
    """What the base and the model on it say: any number of a damaged base shows."""
    with shop.client() as box:
        return box.run("base", TEXT).vector, box.run("mood", TEXT).scores


def refs(shop):
    with shop.client() as box:
        return [model.ref for model in box.models()]


def weights_of(shop, ref):
    with shop.client() as box:
        return next(shop.home / "blobs" / file.digest for file in box.model(ref).files if file.part is Part.WEIGHTS)


def flip(path: Path):
    """The last byte of a file, where it lies."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


@pytest.mark.parametrize("is_up", [True, False])
def test_a_flipped_byte_of_a_base_is_named_and_mended_by_the_command_that_is_said(shop, is_up):
    before, blob = answers(shop), weights_of(shop, "base")
    if not is_up:
        shop.done("down")
    flip(blob)
    if not is_up:
        shop.done("up")
        with fails_with(Corrupt, file="model.safetensors"):
            answers(shop)
    done = shop("doctor", "--deep")
    assert done.returncode == 1
    assert "FAIL  store    base:1: model.safetensors is damaged on the disk" in done.stdout
    hint = done.stdout.splitlines()[-1].strip()
    assert hint == "llmos pull tiny --name base"
    shop.follow(hint)
    assert answers(shop) == before
    assert shop.findings() == ([], "")
    assert refs(shop) == ["base:1", "mood:1"]
    assert "is here already" in shop.done("pull", "tiny", "--name", "base")


def test_pages_that_the_daemon_knows_are_said_and_written_again(shop):
    before, pages = answers(shop), ["names/base/1.json", "names/mood/1.json", "names/mood/promoted.json"]
    whole = {page: (shop.home / page).read_bytes() for page in pages}
    for page in pages:
        (shop.home / page).write_bytes(b"\0\0garbled")
    said, hint = shop.findings()
    assert [one.partition(": ")[0] for one in said] == ["base:1", "mood:1", "mood"]
    assert all("was written again" in one for one in said)
    assert hint == ""
    assert shop.findings() == ([], "")
    assert {page: (shop.home / page).read_bytes() for page in pages} == whole
    assert answers(shop) == before


def test_lost_manifests_are_said_with_the_commands_that_mend_or_remove_them(shop):
    before = answers(shop)
    with shop.client() as box:
        (rows,) = box.datasets()
    shop.done("down")
    for page in ("names/base/1.json", "names/mood/promoted.json", f"datasets/{rows.name}/1.json"):
        (shop.home / page).write_bytes(b"\0\0garbled")
    shop.done("up")
    assert refs(shop) == ["mood:1"]
    said, hint = shop.findings()
    assert sorted(one.partition(": ")[0] for one in said) == sorted(["base:1", "mood", rows.ref])
    assert "mood:1 stand on it" in next(one for one in said if one.startswith("base:1"))
    shop.follow(hint.replace("SOURCE", "tiny").replace("VERSION", "1"))
    assert shop.findings() == ([], "")
    assert answers(shop) == before
    assert refs(shop) == ["base:1", "mood:1"]
    with shop.client() as box:
        assert box.datasets() == []


@dataclass(frozen=True)
class NullHouse(House):
    """One whose models the null engine answers."""

    def __call__(self, *words, **more):
        return super().__call__(*words, **{"LLMOS_ENGINE": "null", **more})


@pytest.fixture(scope="module")
def null_house(tmp_path_factory):
    """A home with a base and two processes in its journal."""
    home = tmp_path_factory.mktemp("journal") / "home"
    home.mkdir()
    house = NullHouse(home, free_port())
    add_base(Store(home))
    try:
        assert house("up").returncode == 0
        with house.client() as box:
            assert box.run("tiny", TEXT, task="embed").vector
        yield house
    finally:
        house("down")


def overwritten(journal: Path):
    with journal.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * 8192)


def of_another_program(journal: Path):
    journal.unlink()
    other = sqlite3.connect(journal)
    other.execute("CREATE TABLE recipes (cake TEXT)")
    other.close()


def truncated(journal: Path):
    os.truncate(journal, 0)


def its_snapshot_too(journal: Path):
    truncated(journal)
    overwritten(journal.with_suffix(".snapshot"))


@pytest.mark.parametrize("damage", [overwritten, of_another_program, truncated, its_snapshot_too])
def test_a_damaged_journal_is_a_sentence_and_the_way_back_that_it_says_leads_there(null_house, damage):
    house, journal = null_house, null_house.home / "journal.db"
    with house.client() as box:
        pids = {process.pid for process in box.processes()}
    assert house("down").returncode == 0
    damage(journal)
    refused = house("up")
    assert refused.returncode != 0
    assert str(journal) in refused.stderr
    assert "Traceback" not in refused.stderr
    if damage is its_snapshot_too:
        assert house("up", "--restore").returncode != 0
        words = shlex.split(refused.stderr.partition("without process history: ")[2].splitlines()[0])
        subprocess.run(words, check=True)
        assert house("up").returncode == 0
        pids = set()
    else:
        assert "llmos up --restore" in refused.stderr
        assert house("up", "--restore").returncode == 0
        assert list(house.home.glob("journal.damaged-*.db"))
    with house.client() as box:
        assert [model.ref for model in box.models()] == ["tiny:1"]
        assert {process.pid for process in box.processes()} >= pids
        assert box.run("tiny", TEXT, task="embed").vector
        assert box.verify().damages == ()
