"""kill -9 where it hurts: a trainer at any point, a serve process under calls, the daemon in the midst of its work."""

from __future__ import annotations

import math
import os
import random
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from conftest import House, free_port, furnished, is_hit

from llmos.abi.error import LlmosError
from llmos.abi.model import Part
from llmos.abi.process import State

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

KILLS = 2  # tests/training kills a trainer five times, without a daemon
WORDS = {"praise": "good lovely kind quick helpful", "blame": "late broken rude slow missing"}
QUIET = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
HAMMER = """
import sys
from llmos import Client
with Client(sys.argv[1]) as box:
    print("begun", flush=True)
    for version in (1, 2) * 100000:
        box.promote(f"mood:{version}")
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two labels told apart by their words, split by us so that every run sees the same."""
    folder = tmp_path_factory.mktemp("rows")
    chance = random.Random(3)
    for split, count in (("train", 48), ("test", 12)):
        lines = ["text,label"]
        for i in range(count):
            label = ("praise", "blame")[i % 2]
            words = chance.sample(WORDS[label].split(), 2)
            lines.append(f"the {words[0]} parcel number {i} was {words[1]} {split},{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def mortals(tmp_path_factory, starters):
    """A house whose daemon is killed by these tests, one after the other."""
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    home = tmp_path_factory.mktemp("mortal") / "home"
    home.mkdir()
    house = House(furnished(home, starters), free_port())
    yield house
    house("down")


@pytest.fixture
def mortal(mortals):
    """The same house, up."""
    mortals.start()
    return mortals


@pytest.fixture(scope="module")
def mood(mortals, rows):
    """A name with two versions in that house, which tell praise from blame."""
    mortals.start()
    with mortals.client() as box:
        for seed in (1, 2):
            ended(box, train(box, rows, "mood", epochs=1, seed=seed))
        refs = [model.ref for model in box.models() if model.name == "mood"]
    assert sorted(refs) == ["mood:1", "mood:2"]
    return refs


def train(box, rows, name, **settings):
    given = {"epochs": 2, "batch_size": 4, "save_best": False, **settings}
    test = rows / "test.csv"
    return box.train(
        "classify", data=rows / "train.csv", validation=test, test=test, name=name, wait=False, **given
    ).pid


def weights(box, ref):
    return {file.path: file.digest for file in box.model(ref).files if file.part in (Part.WEIGHTS, Part.HEAD)}


def killed_at(box, pid, step):
    """kill -9 of the process behind this pid once it has done so many steps; whether it came to that."""
    for stream_event in box.watch(pid):
        process = stream_event.process
        if process is None or process.is_ended:
            continue
        if process.os_pid and process.progress and process.progress.phase == "train" and process.progress.done >= step:
            is_hit(process.os_pid)
            break
    return box.process(pid)


def serving(box):
    """The process that serves the base."""
    (one,) = [p for p in box.processes() if p.spec.title == "serve minilm:1" and p.state is State.READY]
    return one


def ended(box, pid):
    for _ in box.watch(pid):
        pass
    return box.process(pid)


def test_a_trainer_killed_again_and_again_ends_at_the_same_bits(minilm, rows):
    with minilm.client() as box:
        often = {"checkpoint_every_s": 0.2}
        undisturbed = ended(box, train(box, rows, "calm", **often))
        assert undisturbed.state is State.EXITED, undisturbed
        pid = train(box, rows, "shaken", **often)
        kills = 0
        for step in sorted(random.sample(range(1, 22), KILLS)):
            killed_at(box, pid, step)
            process = ended(box, pid)
            if process.state is not State.INTERRUPTED:
                break
            kills += 1
            box.resume(pid)
        process = ended(box, pid)
        assert (process.state, process.exit_code) == (State.EXITED, 0), process
        assert kills > 0
        assert weights(box, "shaken") == weights(box, "calm")


def test_every_call_is_answered_though_the_serve_process_is_killed_under_them(minilm, close):
    with minilm.client() as box:
        before = box.run("minilm", "hello").vector
        os_pid = serving(box).os_pid
        with ThreadPoolExecutor(40) as pool:
            calls = [pool.submit(box.run, "minilm", f"call number {i}") for i in range(200)]
            calls[0].result()
            os.kill(os_pid, signal.SIGKILL)
            answers = [call.result() for call in calls]
        assert len({tuple(answer.vector) for answer in answers}) == 200
        assert box.run("minilm", "hello").vector == pytest.approx(before, abs=close)
        assert box.status().in_flight == 0


def test_a_serve_process_killed_beside_a_training_comes_back_and_answers(minilm, rows, close):
    with minilm.client() as box:
        before = box.run("minilm", "hello").vector
        process = serving(box)
        pid = train(box, rows, "endless", epochs=400)
        until_it_trains(box, pid)
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(box.run, "minilm", "hello") for _ in range(40)]
            calls[0].result()
            os.kill(process.os_pid, signal.SIGKILL)
            for call in calls:  # sums are made in another order beside other texts
                assert call.result().vector == pytest.approx(before, abs=close)
        assert box.run("minilm", "hello").vector == pytest.approx(before, abs=close)
        assert not box.process(pid).is_ended, "the training has ended: nothing was tried beside it"
        now = box.process(process.pid)
        assert now.restarts > process.restarts or now.is_ended
        box.kill(pid, force=True)


def until_it_trains(box, pid):
    for stream_event in box.watch(pid):
        process = stream_event.process
        if process and process.progress and process.progress.phase == "train" and process.progress.done >= 2:
            return
    raise AssertionError(box.process(pid))


def test_no_call_fails_while_its_name_moves_between_versions(mortal, mood):
    with mortal.client() as box:
        is_over = Event()

        def ask():
            answers = 0
            while not is_over.is_set():
                assert box.run("mood", "a lovely parcel").label in WORDS
                answers += 1
            return answers

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            try:
                for move in range(20):
                    box.run("mood", "a late parcel")  # so that calls are answered between any two moves
                    assert box.promote(mood[move % 2]).promoted
            finally:
                is_over.set()
            assert all(one.result() for one in asking)
        assert box.status().in_flight == 0


def test_a_daemon_killed_during_training_leaves_it_to_be_resumed(mortal, rows):
    with mortal.client() as box:
        pid = train(box, rows, "left", epochs=2, checkpoint_every_s=0.2)
        until_it_trains(box, pid)
        trainer = box.process(pid).os_pid
        watched = os.pidfd_open(trainer)
        os.kill(box.status().os_pid, signal.SIGKILL)
    assert mortal("up").returncode == 0
    with mortal.client() as box:
        process = box.process(pid)
        assert (process.state, process.os_pid) == (State.INTERRUPTED, None)
        assert select.select([watched], [], [], 10)[0], "it ends with its daemon"
        assert [model.name for model in box.models() if model.name == "left"] == []
        box.resume(pid)
        assert ended(box, pid).made[-1] == "left:1"
    os.close(watched)


@pytest.mark.parametrize("phase", ["copy", "commit", "convert"])
def test_a_daemon_killed_during_a_pull_and_promotions_shows_no_half_of_either(mortal, starters, mood, phase):
    """The pull is interrupted and goes on, or was done; of two versions one is promoted."""
    with subprocess.Popen([sys.executable, "-c", HAMMER, mortal.url], **QUIET) as hammer, mortal.client() as box:
        assert hammer.stdout.readline() == "begun\n"
        until_one_is_promoted(box)
        pid = box.pull(str(starters / "models" / "minilm" / "1"), name=f"again-{phase}", wait=False).pid
        until_it_pulls(box, pid, phase)
        os.kill(box.status().os_pid, signal.SIGKILL)
    assert mortal("up").returncode == 0
    with mortal.client() as box:
        versions = {model.ref: model.promoted for model in box.models() if model.name == "mood"}
        assert versions.keys() == set(mood)
        assert [*versions.values()].count(True) == 1
        process = box.process(pid)
        if process.state is State.INTERRUPTED:
            try:
                box.resume(pid)
                process = ended(box, pid)
            except LlmosError as error:
                raise AssertionError(process) from error
        assert process.state is State.EXITED, process
        assert len(box.run(f"again-{phase}", "hello").vector) == 384
        assert box.run("mood", "a lovely parcel").label in WORDS


@pytest.mark.parametrize("is_daemon", [False, True])
@pytest.mark.parametrize("phase", ["read", "done"])
def test_an_import_that_is_killed_leaves_a_whole_version_or_none(mortal, tmp_path, is_daemon, phase):
    lines = [f"{'parcel ' * 20}number {i},{('praise', 'blame')[i % 2]}" for i in range(30_000)]
    (tmp_path / "many.csv").write_text("\n".join(["text,label", *lines]))
    name = f"many-{phase}-{is_daemon}".lower()
    with mortal.client() as box:
        pid = box.import_dataset(tmp_path / "many.csv", name=name, wait=False).pid
        until_it_pulls(box, pid, phase)
        target = box.status().os_pid if is_daemon else box.process(pid).os_pid
        is_hit(target)  # it may be over, where its last phase was waited for
        if not is_daemon:
            ended(box, pid)
    mortal.start()
    with mortal.client() as box:
        found = [one for one in box.datasets() if one.name == name]
        assert [one.splits for one in found] in ([], [{"train": 30_000}])
        if found:
            assert len(box.dataset_rows(name, offset=29_999)) == 2
        assert box.import_dataset(tmp_path / "many.csv", name=name).state is State.EXITED
        assert box.dataset(name).splits == {"train": 30_000}


def until_one_is_promoted(box):
    for stream_event in box.watch():
        if stream_event.kind == "promoted":
            return


def until_it_pulls(box, pid, phase):
    """Until it is in this phase, or is over."""
    for stream_event in box.watch(pid):
        process = stream_event.process
        if process and process.progress and process.progress.phase == phase:
            return


def test_a_daemon_killed_while_a_wheel_comes_in_goes_on_where_it_was(new_house, tmp_path):
    empty = replace(new_house, home=tmp_path / "empty")
    try:
        assert empty("up").returncode == 0
        with empty.client() as box:
            pid = box.pull("minilm", wait=False).pid
            held = _held_when_killed(box, pid)
        if held is None:
            pytest.skip("minilm cannot be pulled, for the package index is not reachable from here")
        assert empty("up").returncode == 0
        with empty.client() as box:
            assert (box.process(pid).state, box.models()) == (State.INTERRUPTED, [])
            box.resume(pid)
            assert _first_download(box, pid) >= held
            assert ended(box, pid).made == ("minilm:1",)
            assert len(box.run("minilm", "hello").vector) == 384
    finally:
        empty("down")


def _held_when_killed(box, pid):
    """kill -9 of the daemon once some bytes of the download are here; how many were told, None if it ended before."""
    for stream_event in box.watch(pid):
        process = stream_event.process
        if process is None or process.is_ended or process.progress is None:
            continue
        if process.progress.phase == "download" and process.progress.done > 0:
            os.kill(box.status().os_pid, signal.SIGKILL)
            return process.progress.done
    return None


def _first_download(box, pid):
    """What a pull already has when it first says how far its download is; all of it if there is nothing to fetch."""
    for stream_event in box.watch(pid):
        progress = stream_event.process.progress if stream_event.process else None
        if progress is not None and progress.phase == "download" and stream_event.process.state is State.READY:
            return progress.done
    return math.inf
