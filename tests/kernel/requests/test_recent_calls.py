"""Recent calls in memory: found by id, bounded in bytes, erased by user."""

from hypothesis import given
from hypothesis import strategies as st

from llmos.kernel.requests.recent_calls import CallSources, RecentCalls


def row(call="a", text="hello", user="", *, key="", model="m:1"):
    return (call, 0.0, 0.1, "/v1/run", model, "classify", "ok", 1, key, user, 1, 0, (text,), ({"label": "x"},))


def test_a_call_is_found_by_its_id_until_others_need_its_place():
    recent = RecentCalls(20_000)
    for number in range(100):
        recent.add(row(f"call-{number}"))
    assert recent.get("call-99").inputs == ("hello",)
    assert recent.get("call-0") is None
    assert 1 < len(recent) < 100


def test_a_call_that_would_take_much_of_the_memory_is_not_kept():
    recent = RecentCalls(80_000)
    recent.add(row("large", "x" * 20_000))
    assert recent.get("large") is None
    assert recent.held_bytes == 0


def test_calls_of_a_user_are_erased():
    recent = RecentCalls(80_000)
    recent.add(row("a", user="ann"))
    recent.add(row("b", user="bob"))
    assert recent.erase("ann") == 1
    assert (recent.get("a"), recent.get("b").user) == (None, "bob")


def test_the_latest_call_with_an_input_is_found():
    recent = RecentCalls(80_000)
    for call, text in (("a", "one"), ("b", "two"), ("c", "one")):
        recent.add(row(call, text))
    assert recent.latest("m", "one").id == "c"
    assert recent.latest("m", "three") is None
    assert recent.latest("other", "one") is None
    recent.add(row("d", {"text": "one"}))
    assert recent.latest("m", {"text": "one"}).id == "d"
    assert recent.latest("m", {"text": "two"}) is None


ADDED = st.tuples(
    st.integers(0, 9),
    st.sampled_from(["one", "two", {"text": "one"}]),
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["k1", "k2"]),
    st.sampled_from(["interactive", "batch"]),
)


@given(st.lists(ADDED, max_size=40), st.integers(8_000, 60_000))
def test_the_latest_call_is_what_a_search_finds(added, limit):
    recent, there = RecentCalls(limit), []
    for number, (kind, text, user, key, priority) in enumerate(added):
        if kind == 0:
            recent.erase(user)
        else:
            there.append(row(str(number), text, user, key=key))
            recent.add(there[-1], priority)
        there = [one for one in there if recent.get(one[0]) is not None]
        for given_text in ("one", "two", {"text": "one"}):
            found = [one[0] for one in there if one[12] == (given_text,)]
            latest = recent.latest("m", given_text)
            assert (None if latest is None else latest.id) == (found[-1] if found else None)


KEYS = st.sampled_from(["", "k1"])
steps = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 3_000), st.sampled_from(["ann", "bob", ""]), KEYS), max_size=60
)


@given(steps, st.integers(5_000, 40_000))
def test_bytes_are_counted_exactly_and_never_over_the_limit(added, limit):
    recent = RecentCalls(limit)
    for number, size, user, key in added:
        if size == 0:
            recent.remove(str(number))
        elif size == 1:
            recent.erase("ann")
        else:
            recent.add(row(str(number), "x" * size, user, key=key))
        assert 0 <= recent.held_bytes <= limit
    for number in range(31):
        recent.remove(str(number))
    assert (recent.held_bytes, len(recent)) == (0, 0)


def test_a_burst_of_one_source_leaves_the_calls_of_others():
    recent = RecentCalls(80_000)
    recent.add(row("other-model", model="n:1"), "interactive")
    recent.add(row("other-key", key="k2"), "interactive")
    recent.add(row("asked-by-a-person"), "interactive")
    for number in range(1_000):
        recent.add(row(f"line-{number}"), "batch")
    for call in ("other-model", "other-key", "asked-by-a-person", "line-999"):
        assert recent.get(call) is not None, call
    assert recent.get("line-0") is None


CALLS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(1, 50)), max_size=300)


@given(CALLS)
def test_the_source_that_holds_the_most_makes_room(calls):
    sources, held = CallSources(), {}
    for number, (is_added, name, size) in enumerate(calls):
        if is_added or not held:
            held.setdefault(name, {})[str(number)] = size
            sources.add((name, "", ""), str(number), size)
        else:
            found = sources.oldest_of_largest()
            most = max(sum(one.values()) for one in held.values())
            largest = next(one for one, its in held.items() if found in its)
            assert sum(held[largest].values()) == most
            assert found == next(iter(held[largest]))
            sources.remove((largest, "", ""), found, held[largest].pop(found))
            if not held[largest]:
                del held[largest]


def test_to_drop_calls_of_many_sources_looks_at_few_of_them():
    looks = []

    class Bytes(dict):
        def __getitem__(self, source):
            looks.append(source)
            return super().__getitem__(source)

        def get(self, source, other=None):
            looks.append(source)
            return super().get(source, other)

    sources = CallSources(Bytes())
    for number in range(5_000):
        sources.add((str(number % 1_000), "", ""), str(number), 10)
    looks.clear()
    for number in range(5_000, 15_000):
        sources.add((str(number % 1_000), "", ""), str(number), 10)
        gone = sources.oldest_of_largest()
        sources.remove((str(int(gone) % 1_000), "", ""), gone, 10)
    assert len(looks) < 10 * 10_000
