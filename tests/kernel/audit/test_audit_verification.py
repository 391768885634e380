"""The audit log of 1,000 entries: every edit of a byte, every truncation and every swap is found."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.audit import AuditEntry
from llmos.kernel.audit.audit_files import HEAD, KEY, AuditFiles, lines_of
from llmos.kernel.audit.audit_log import AuditLog
from llmos.kernel.audit.chain import follows, read_line, write_line
from llmos.kernel.audit.verification import verify

NOON = 1_750_000_000.0
MANY = 1_000


def entries(count):
    return [AuditEntry(f"k{i % 7}", "POST /v1/keys", f"key-{i}", "10.0.0.7") for i in range(count)]


def write(home, count=MANY, **options):
    AuditLog(home, clock=lambda: NOON, **options).append(entries(count))


def segment(home, at=0):
    return AuditFiles(home).segments()[at]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A home, its only segment, and that segment's bytes: each test puts them back."""
    home = tmp_path_factory.mktemp("home")
    write(home)
    return home, segment(home), segment(home).read_bytes()


def test_a_log_that_is_as_it_was_written_is_whole(written):
    found = verify(written[0])
    assert (found.entries, found.first, found.last) == (MANY, 1, MANY)
    assert (found.findings, found.unfinished_bytes) == ((), 0)


def test_a_home_without_a_log_has_nothing_to_find(tmp_path):
    assert verify(tmp_path).findings == ()


def test_every_edit_of_a_byte_breaks_its_line(written):
    """Each byte of each line is changed, exhaustively; only the line itself is looked at, for the time it takes."""
    home, _, data = written
    key, previous = AuditFiles(home).key(), ""
    lines, _ = lines_of(data)
    for line in lines:
        whole = line.code.encode() + b" " + line.body
        assert follows(key, previous, line)
        for at in range(len(whole)):
            edited = read_line(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
            assert edited.entry is None or not follows(key, previous, edited), (line, at)
        previous = line.code


def test_edits_of_bytes_are_found_in_the_file(written):
    """Every byte of the first and last lines and every end of a line, to values of all kinds; then some of the rest."""
    home, path, data = written
    chance = random.Random(5)
    ends = [at for at, byte in enumerate(data) if byte == 10]
    places = {*range(300), *range(len(data) - 300, len(data)), *chance.sample(ends, 40)}
    places |= {chance.randrange(len(data)) for _ in range(100)}
    try:
        for at in sorted(places):
            other = chance.choice([one for one in (0, 10, 32, 48, 65, 255, data[at] ^ 1) if one != data[at]])
            path.write_bytes(data[:at] + bytes((other,)) + data[at + 1 :])
            assert verify(home).findings, (at, other)
    finally:
        path.write_bytes(data)


def test_truncations_are_found(written):
    """After each entry, and at many bytes within entries."""
    home, path, data = written
    chance = random.Random(6)
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10][:-1]
    lengths = [*range(len(data) - 200, len(data)), *chance.sample(ends, 60), *range(5)]
    try:
        for length in [*lengths, *(chance.randrange(len(data)) for _ in range(60))]:
            path.write_bytes(data[:length])
            assert verify(home).findings, length
        path.unlink()
        assert "1 to 1000 are missing" in verify(home).findings[0]
    finally:
        path.write_bytes(data)


@given(st.data())
def test_swaps_and_moves_and_removals_are_found(written, data):
    home, path, before = written
    lines = before.splitlines(keepends=True)
    one, two = sorted(data.draw(st.lists(st.integers(0, MANY - 1), min_size=2, max_size=2, unique=True)))
    how = data.draw(st.sampled_from(["swap", "move", "remove", "twice"]))
    if how == "swap":
        lines[one], lines[two] = lines[two], lines[one]
    elif how == "move":
        lines.insert(one, lines.pop(two))
    elif how == "remove":
        del lines[one]
    else:
        lines.insert(two, lines[one])
    try:
        path.write_bytes(b"".join(lines))
        assert verify(home).findings
    finally:
        path.write_bytes(before)


def test_every_swap_of_neighbours_is_found(written):
    """In the lines alone: neither of two that were swapped follows what stands before it."""
    home, _, data = written
    key, previous = AuditFiles(home).key(), ""
    lines, _ = lines_of(data)
    for one, two in pairwise(lines):
        assert not follows(key, previous, two)
        assert not follows(key, two.code, one)
        previous = one.code


def test_an_entry_that_was_made_with_another_key_is_found(written):
    home, path, data = written
    lines, _ = lines_of(data)
    forged, _ = write_line(b"x" * 32, lines[-2].code, AuditEntry("k", "POST /v1/keys", seq=MANY, at=NOON))
    try:
        path.write_bytes(b"".join(data.splitlines(keepends=True)[:-1]) + forged)
        assert verify(home).findings
    finally:
        path.write_bytes(data)


@pytest.mark.parametrize("name", [HEAD, KEY])
def test_a_head_or_key_that_was_changed_or_removed_is_found(tmp_path, name):
    write(tmp_path, 3)
    before = (tmp_path / name).read_bytes()
    for at in range(len(before)):
        (tmp_path / name).write_bytes(before[:at] + bytes((before[at] ^ 1,)) + before[at + 1 :])
        assert verify(tmp_path).findings, at
    for length in range(len(before)):
        (tmp_path / name).write_bytes(before[:length])
        assert verify(tmp_path).findings, length
    (tmp_path / name).unlink()
    assert verify(tmp_path).findings


def test_an_older_head_does_not_hide_that_entries_were_changed(tmp_path):
    log = AuditLog(tmp_path, clock=lambda: NOON)
    log.append(entries(3))
    older = (tmp_path / HEAD).read_bytes()
    log.append(entries(3))
    (tmp_path / HEAD).write_bytes(older)
    assert verify(tmp_path).findings == ()  # it may be a crash's: what follows it is signed all the same
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"key-2", b"key-3", 1))
    assert verify(tmp_path).findings


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_segment_that_is_missing_is_found(tmp_path, gone):
    log = AuditLog(tmp_path, clock=lambda: NOON, segment_bytes=500)
    for entry in entries(9):
        log.append([entry])
    assert len(AuditFiles(tmp_path).segments()) >= 3
    assert verify(tmp_path).findings == ()
    segment(tmp_path, gone).unlink()
    assert verify(tmp_path).findings


def test_what_rotation_has_removed_is_not_missing(tmp_path):
    log = AuditLog(tmp_path, clock=lambda: NOON, segment_bytes=500, most_segments=3)
    for entry in entries(40):
        log.append([entry])
    found = verify(tmp_path)
    assert len(AuditFiles(tmp_path).segments()) == 3
    assert (found.findings, found.last) == ((), 40)
    assert found.first > 20
    segment(tmp_path).unlink()
    assert verify(tmp_path).findings
