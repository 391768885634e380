"""The leaderboard as a table: a column for each rung and for each setting that a trial has."""

from llmos.abi.tuning import Leaderboard, TrialRow
from llmos.cli.tune import table_of


def test_the_table_has_rungs_and_settings_and_says_who_won():
    rows = (
        TrialRow(3, {"method": "lora", "rank": 8, "learning_rate": 0.00123}, {}, "done", (0.5, 0.75), 1.0, 61.0, 12),
        TrialRow(0, {"method": "full", "learning_rate": 0.0001}, {}, "ended", (0.25,), 0.25, 5.0, 9, "", True),
        TrialRow(1, {"method": "full"}, state="failed", note="it diverged"),
    )
    board = Leaderboard("classify", "mood", "tiny:1", "accuracy", "3 trials", "random", (0.25, 1.0), rows, winner=3)
    head, cells = table_of(board)
    assert head == ("TRIAL", "PID", "STATE", "25 %", "100 %", "METHOD", "LEARNING RATE", "RANK", "TIME", "NOTE")
    assert cells[0] == (3, 12, "winner", "0.5000", "0.7500", "lora", "0.00123", "8", "1m01s", "")
    assert cells[1] == (0, 9, "ended", "0.2500", "", "full", "0.0001", "", "5s", "defaults")
    assert cells[2][-1] == "it diverged"
