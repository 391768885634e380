"""Taking turns: what is compared runs in rounds, one after the other, so that the machine's drift hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

PAUSE_S = 0.2  # idle threads of the one before spin for a while after their last piece of work


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, pause_s: float = PAUSE_S
) -> dict[str, list[float]]:
    """Seconds per round of each. Every second round goes backwards, so that none always follows the same other."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for index in range(rounds):
        names = list(contenders)
        for name in names if index % 2 == 0 else reversed(names):
            seconds[name].append(measure_s(contenders[name], pause_s))
    return seconds


def measure_s(run: Callable[[], object], pause_s: float = PAUSE_S) -> float:
    time.sleep(pause_s)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def per_second(seconds: Mapping[str, list[float]], amount: float) -> dict[str, list[float]]:
    """Rates of each, where every round does the same amount of work."""
    return {name: [amount / one for one in each] for name, each in seconds.items()}
