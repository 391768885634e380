"""Any history of commits, removals, promotions, collections and restarts, against a model that is a few dicts."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stocking import base, model

from llmos.abi.error import Conflict
from llmos.kernel.store.store import Store

NAMES = ("a", "b", "c")
BASES = ("x", "y")


class History(RuleBasedStateMachine):
    """`there` maps ref -> its base or None; `highest` the last number of each name, which is never given again, also
    once all its versions are gone; `history` what was promoted."""

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.store = Store(self.home)
        self.there, self.highest, self.history, self.pid = {}, {}, {}, 0

    def teardown(self):
        shutil.rmtree(self.home)

    def added(self, manifest, on):
        self.highest[manifest.name] = self.highest.get(manifest.name, 0) + 1
        assert manifest.version == self.highest[manifest.name]
        self.there[manifest.ref] = on

    @rule(name=st.sampled_from(BASES), value=st.integers(0, 2))
    def pull(self, name, value):
        self.pid += 1
        before = {m.ref for m in self.store.manifests()}
        is_first = not any(ref.split(":")[0] == name for ref in self.there)
        manifest = self.store.commit(base(self.home, self.pid, name, bytes([value]) * 16), self.pid)
        if manifest.ref not in before:
            self.added(manifest, None)
            if is_first:
                self.history[name] = [manifest.version]

    @precondition(lambda self: any(on is None for on in self.there.values()))
    @rule(name=st.sampled_from(NAMES), data=st.data(), value=st.integers(0, 9))
    def train(self, name, data, value):
        self.pid += 1
        on = data.draw(st.sampled_from(sorted(ref for ref, b in self.there.items() if b is None)))
        self.added(self.store.commit(model(self.home, self.pid, name, on, bytes([value]) * 8), self.pid), on)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def promote(self, data):
        name, version = data.draw(st.sampled_from(sorted(self.there))).split(":")
        self.store.promote(f"{name}:{version}")
        history = self.history.setdefault(name, [])
        if history[-1:] != [int(version)]:
            history.append(int(version))

    @precondition(lambda self: any(len(h) > 1 for h in self.history.values()))
    @rule(data=st.data())
    def rollback(self, data):
        name = data.draw(st.sampled_from(sorted(n for n, h in self.history.items() if len(h) > 1)))
        self.history[name].pop()
        assert self.store.rollback(name).version == self.history[name][-1]

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def remove(self, data):
        ref = data.draw(st.sampled_from(sorted(self.there)))
        if ref in self.there.values():
            try:
                self.store.remove(ref)
            except Conflict:
                return
            raise AssertionError(f"{ref} was removed under a model that stands on it")
        assert self.store.remove(ref) == [ref]
        del self.there[ref]
        name, version = ref.split(":")
        kept = [v for v in self.history.pop(name, []) if v != int(version)]
        if kept and any(other.split(":")[0] == name for other in self.there):
            self.history[name] = [v for i, v in enumerate(kept) if i == 0 or kept[i - 1] != v]

    @rule()
    def collect(self):
        self.store.collect()
        reached = {f.digest for m in self.store.manifests() for f in m.files}
        assert {path.name for path in (self.home / "blobs").iterdir()} == reached
        assert self.store.disk_use().reclaimable_bytes == 0

    @rule()
    def restart(self):
        self.store = Store(self.home)
        assert self.store.damaged == ()

    @invariant()
    def what_should_be_there_is_and_verifies(self):
        assert {m.ref: m.base for m in self.store.manifests()} == self.there
        for ref in self.there:
            self.store.verify(ref)
        for name in NAMES + BASES:
            assert list(self.store.promotions(name)) == self.history.get(name, [])


TestHistory = pytest.mark.slow(History.TestCase)
TestHistory.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
