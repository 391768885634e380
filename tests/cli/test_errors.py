"""`llmos errors`: how a wrong row is shown, with colours and without."""

from __future__ import annotations

from llmos.abi.row_outcome import CheckMark, NearRow, RowOutcome, SpanMark
from llmos.cli.errors import outcome_lines

TAGGED = RowOutcome(
    0,
    "0123456789abcdef",
    "/data/rows.conll",
    7,
    ("Ada Bell in York",),
    "PER: Ada Bell; LOC: York",
    "PER: Ada; LOC: York",
    0.0,
    ("boundary",),
    0.4,
    2.5,
    spans=(
        SpanMark(0, 3, "boundary", given="PER"),
        SpanMark(0, 8, "boundary", "PER"),
        SpanMark(12, 16, "hit", "LOC", "LOC"),
    ),
)


def test_entities_are_marked_in_their_sentence() -> None:
    assert list(outcome_lines(TAGGED, is_coloured=False)) == [
        "rows.conll:7  0123456789abcdef  boundary  confidence 0.40, loss 2.50",
        "  true   [PER Ada Bell] in [LOC York]",
        "  given  [PER Ada] Bell in [LOC York]",
    ]


def test_a_terminal_has_hits_in_green_and_errors_in_red() -> None:
    _, true, given = outcome_lines(TAGGED, is_coloured=True)
    assert true.startswith("  true   \x1b[31m[PER Ada Bell]\x1b[0m")
    assert "\x1b[32m[LOC York]\x1b[0m" in given


def test_a_label_is_shown_with_its_suspicion_and_the_rows_near_to_it() -> None:
    near = NearRow("where is my card", "card_arrival", 0.91, "/data/train.csv", 33)
    one = RowOutcome(
        0,
        "id",
        "t.csv",
        2,
        ("My card\nis late",),
        "lost_card",
        "card_arrival",
        0.0,
        ("lost_card -> card_arrival",),
        suspect="surely another one",
        nearest=(near,),
        checks=(CheckMark("near_duplicates"), CheckMark("suspects", "card_arrival", 0.934)),
    )
    assert list(outcome_lines(one, is_coloured=False)) == [
        "t.csv:2  id  lost_card -> card_arrival",
        "  My card is late",
        "  true   lost_card",
        "  given  card_arrival",
        "  its label may be wrong: surely another one",
        "  data check: near duplicates; suspects, likelier: card_arrival (0.93)",
        "  near 0.91  train.csv:33  card_arrival: where is my card",
    ]
