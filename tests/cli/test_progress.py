"""Waiting without a terminal: a line for each phase, and one for what a phase found."""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.process import DONE, Process, Progress, Spec, State
from llmos.cli.progress import lines


def test_what_a_phase_found_is_a_line_of_its_own_and_said_once(capsys):
    process = Process(7, Spec("quantize"), State.READY)
    found = Progress("weigh", 1, 1, message="int8 here: 35.2 MB for 45.1 MB in bfloat16")
    steps = Progress("train", 9, 9, "steps", message="epoch 1")
    told = [Progress("weigh", 0, 1, message="measuring"), found, found, Progress("convert", message="writing"), steps]
    with lines() as show:
        show(process)
        for one in (*told, Progress(DONE, 1, 1, message="tiny:2: done")):
            show(replace(process, progress=one))
    said = capsys.readouterr().err.splitlines()
    wanted = [State.READY, "weigh", found.message, "convert", "train", DONE]
    assert said == [f"pid 7: {text}" for text in wanted]
