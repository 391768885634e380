"""Whose turn it is: calls in the order they came, but for those that ask for much at once, or are in no hurry."""

from __future__ import annotations

from llmos.abi.process import Class

TURN = 32  # inputs of a call for one turn: those after them wait for another call's first ones
BEHIND = {Class.INTERACTIVE: 0, Class.BATCH: 64, Class.BACKGROUND: 256}  # so many later calls may go before it
