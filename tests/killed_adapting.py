"""A process that forks adaptations and kills one of them at random steps; it prints what each ended with."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from killed_training import KILLS, bits_of, complete
from tiny_adapting import job_of, masking_base


def main(folder: Path, *objectives: str) -> None:
    """Print what each objective ended with, in peace and killed."""
    print(json.dumps({one: ends_of(folder / one, one) for one in objectives}))


def ends_of(folder: Path, objective: str) -> dict[str, object]:
    """The same adaptation twice, once in peace."""
    folder.mkdir()
    base = masking_base(folder, "llama" if objective == "causal" else "bert")
    found: dict[str, object] = {}
    for name in ("undisturbed", "killed"):
        told = job_of(folder, base, objective=objective, epochs=2.0, checkpoint_every_s=1e-9)
        chance = random.Random(f"{objective} {name}")
        kills = 0
        while not complete(told, chance.randint(1, 5) if name == "killed" and kills < KILLS else None):
            kills += 1
        found[name] = bits_of(Path(told.scratch) / "adapted" / "model.safetensors")
        found["kills"] = kills if name == "killed" else 0
        Path(told.scratch).rename(folder / name)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
