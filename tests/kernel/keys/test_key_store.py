"""The file of keys: only digests are in it, it is private, and a change is there once it was told."""

import re
import tracemalloc

import pytest

from llmos.abi.error import BadInput, Corrupt, KeyNotFound
from llmos.abi.key import ALL_SCOPES, ApiKey, KeyLimits, KeyScope, id_in
from llmos.kernel.keys.key_store import FILE, KeyStore, has_keys
from llmos.kernel.keys.local_key import forget_local_key, make_local_key
from llmos.testing.errors import fails_with


class Clock:
    now = 1_750_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    return KeyStore(tmp_path, clock)


def test_a_secret_has_its_form_is_found_and_is_kept_nowhere(store, tmp_path):
    made = store.create(ApiKey("", "web", (KeyScope.INFER,), ("support*",), limits=KeyLimits(concurrency=3)))
    assert re.fullmatch(r"llmos_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", made.secret)
    assert id_in(made.secret) == made.key.id
    assert store.find(made.secret) == made.key
    assert KeyStore(tmp_path).find(made.secret) == made.key
    random = made.secret.split("_", 2)[2]
    assert random not in (tmp_path / FILE).read_text()


@pytest.mark.parametrize(
    "change", [str.upper, lambda one: one[:-1], lambda one: f"{one}A", lambda one: "", lambda one: "x"]
)
def test_any_other_secret_is_nobody_s(store, change):
    made = store.create(ApiKey(""))
    assert store.find(change(made.secret)) is None


def test_a_removed_key_is_gone_for_whoever_opens_the_file_next(store, tmp_path):
    made, other = store.create(ApiKey("")), store.create(ApiKey(""))
    store.remove(made.key.id)
    for one in (store, KeyStore(tmp_path)):
        assert one.find(made.secret) is None
        assert one.find(other.secret) == other.key
    with fails_with(KeyNotFound, id=made.key.id):
        store.remove(made.key.id)


def test_a_rotated_key_has_the_same_rights_and_its_earlier_secret_for_its_grace(store, clock, tmp_path):
    made = store.create(ApiKey("", scopes=(KeyScope.DATA,)))
    rotated = store.rotate(made.key.id, grace_s=60)
    assert rotated.key == made.key
    assert rotated.secret != made.secret
    for one in (store, KeyStore(tmp_path, clock)):
        assert one.find(made.secret) == one.find(rotated.secret) == made.key
    clock.now += 61
    assert store.find(made.secret) is None
    newest = store.rotate(made.key.id)
    assert store.find(rotated.secret) is None
    assert store.find(newest.secret) == made.key


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (ApiKey("", scopes=()), "scopes"),
        (ApiKey("", models=()), "models"),
        (ApiKey("", models=("",)), "models"),
        (ApiKey("", name="a\nb"), "name"),
        (ApiKey("", expires_at=1.0), "expires_at"),
        (ApiKey("", expires_at=float("inf")), "expires_at"),
        (ApiKey("", limits=KeyLimits(requests_per_minute=0)), "requests_per_minute"),
        (ApiKey("", limits=KeyLimits(tokens_per_day=-1)), "tokens_per_day"),
    ],
)
def test_a_key_that_could_do_nothing_is_refused(store, wanted, key, tmp_path):
    with fails_with(BadInput, key=key):
        store.create(wanted)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys": [{}]}', b'{"form": 99, "keys": []}', b"\xff"])
def test_a_damaged_file_stops_the_start_and_lets_nobody_in(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with fails_with(Corrupt, path=str(tmp_path / FILE)):
        KeyStore(tmp_path)
    with fails_with(Corrupt):
        has_keys(tmp_path)


def test_10_000_wrong_keys_cost_no_row_and_no_memory(store, tmp_path):
    made = store.create(ApiKey(""))
    before = (tmp_path / FILE).read_bytes()

    def ask(number):
        assert store.find(f"llmos_{made.key.id}_{number}") is None
        assert store.find(f"llmos_a{number}_{number}") is None
        assert store.find(f"sk-{number}") is None

    for number in range(100):
        ask(number)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            ask(number)
        end, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end - start < 10_000
    assert (tmp_path / FILE).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE]


def test_the_local_key_is_its_owner_s_alone_new_with_each_start_and_goes(tmp_path):
    first = make_local_key(tmp_path)
    path = tmp_path / "local.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.key.scopes == ALL_SCOPES
    secret = path.read_text()
    assert make_local_key(tmp_path).sha256 != first.sha256
    assert path.read_text() != secret
    forget_local_key(tmp_path)
    assert list(tmp_path.iterdir()) == []
