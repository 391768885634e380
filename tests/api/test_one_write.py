"""An answer's head and body leave together, and nothing is held that nobody follows."""

from llmos.api.connection import OneWrite


class Wire:
    """A transport that keeps what it was given to write."""

    def __init__(self):
        self.writes = []
        self.is_closed = False

    def write(self, data):
        self.writes.append(data)

    def close(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed


def test_a_held_head_leaves_with_the_body():
    wire = Wire()
    one = OneWrite(wire)
    one.holds = True
    one.write(b"head ")
    assert wire.writes == []
    one.holds = False
    one.write(b"body")
    assert wire.writes == [b"head body"]


def test_a_head_without_a_body_leaves_when_the_answer_is_over():
    wire = Wire()
    one = OneWrite(wire)
    one.holds = True
    one.write(b"head")
    one.holds = False
    one.flush()
    one.flush()
    assert wire.writes == [b"head"]


def test_what_is_held_leaves_before_the_connection_closes():
    wire = Wire()
    one = OneWrite(wire)
    one.holds = True
    one.write(b"head")
    one.close()
    assert (wire.writes, wire.is_closed, one.is_closing()) == ([b"head"], True, True)


def test_pieces_of_a_stream_leave_one_by_one():
    wire = Wire()
    one = OneWrite(wire)
    for piece in (b"head", b"first", b"second"):
        one.write(piece)
    assert wire.writes == [b"head", b"first", b"second"]
