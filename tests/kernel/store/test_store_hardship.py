"""A store under hardship: killed at any point, or on a disk that is full, it is whole, and says what happened."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stocking import base, model, offer, safetensors

from llmos.abi.error import DiskFull
from llmos.abi.model import OfferKind
from llmos.kernel.store.store import Store

BUSY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from stocking import base, dataset, model
from llmos.kernel.store.store import Store
home, start = Path(sys.argv[1]), int(sys.argv[3])
store = Store(home)
store.commit(base(home, start), start)
for pid in range(start + 1, start + 100000):
    ref = store.commit(model(home, pid, values=bytes([pid % 251]) * 64), pid).ref
    store.promote(ref)
    store.commit(dataset(home, pid, rows=b"r" * (pid % 7)), pid)
    if pid % 3 == 0:
        store.rollback("ner")
        store.remove(ref)
        store.collect()
    print(pid, flush=True)
"""


@pytest.mark.slow
def test_a_store_killed_at_random_points_is_whole_when_opened_again(tmp_path):
    randomly = random.Random(7)
    for round_ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", BUSY, str(tmp_path), str(Path(__file__).parent), str(1000 * round_ + 1)],
            stdout=subprocess.PIPE,
        )
        for _ in range(randomly.randint(1, 12)):
            assert child.stdout.readline()
        for _ in range(randomly.randint(0, 20000)):
            pass  # a different point of the next commit each time
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = Store(tmp_path)
        assert store.damaged == ()
        assert store.manifests()
        for manifest in store.manifests():
            store.verify(manifest.ref)
            store.located(manifest.ref)
        for one in store.datasets():
            assert all((store.dataset_folder(one.ref) / file.path).exists() for file in one.files)
        left = [
            path
            for room in ("blobs", "names", "models", "datasets", "resident")
            for path in tmp_path.glob(f"{room}/**/.tmp-*")
        ]
        assert left == []
        store.collect()
        reached = {file.digest for one in (*store.manifests(), *store.datasets()) for file in one.files}
        assert {path.name for path in (tmp_path / "blobs").iterdir()} == reached


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "llmos-test", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root and a kernel that permits it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_with_numbers_and_leaves_nothing_half_visible(small_disk):
    store = Store(small_disk)
    store.commit(base(small_disk), 1)
    waiting = model(small_disk, 2)
    before = (store.manifests(), sorted(path.name for path in (small_disk / "blobs").iterdir()))
    (small_disk / "ballast").write_bytes(b"\0" * (shutil.disk_usage(small_disk).free // 4096 * 4096))
    with pytest.raises(DiskFull) as full:
        store.commit(waiting, 2)
    assert full.value.detail["free_bytes"] < full.value.detail["need_bytes"]
    assert (store.manifests(), sorted(path.name for path in (small_disk / "blobs").iterdir())) == before
    assert Store(small_disk).manifests() == before[0]
    (small_disk / "ballast").unlink()
    assert store.commit(waiting, 2).ref == "ner:1"


def test_a_write_that_fails_midway_leaves_nothing_of_its_version(tmp_path):
    store = Store(tmp_path)
    manifest = store.commit(base(tmp_path), 1)
    huge = offer(
        tmp_path, 2, 1, OfferKind.MODEL, "ner", {"head.safetensors": safetensors(b"\7" * 8)},
        task="tag", base="minilm:1", labels=["label"] * 3000,
    )  # fmt: skip
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # the manifest, written last, is what does not fit
    try:
        with pytest.raises(DiskFull):
            store.commit(huge, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for seen in (store, Store(tmp_path)):
        assert seen.manifests() == [manifest]
        assert seen.disk_use().reclaimable_bytes == 0
    assert not (tmp_path / "models/ner/1").exists()
    assert store.commit(huge, 2).ref == "ner:1"
