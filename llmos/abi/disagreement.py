"""Disagreements: texts to which two versions in a rollout gave different answers, kept to be labelled."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmos.abi.json_type import Json

EXTRA = "disagreement"  # the name of a row's other column that says where it is from
MOST_CHARACTERS = 65_536  # of a text that is kept


@dataclass(frozen=True, slots=True)
class CallOrigin:
    """Where a call that a rollout counts came from, and whether its text may be kept (`store` in its body)."""

    call: str = ""
    user: str = ""
    key: str = ""
    may_keep: bool = True


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One text of a call, and what each of two versions answered.

    `text_id` is equal for equal texts, as in datasets. `answers` are by version (`name:number`), first the one that the
    client got. `count` is how often this user's calls had the text.
    """

    id: int
    at: float
    model: str
    task: str
    text_id: str
    text: str
    answers: dict[str, Json]
    rollout: str
    mode: str
    call: str = ""
    index: int = 0
    user: str = ""
    key: str = ""
    count: int = 1

    @property
    def provenance(self) -> dict[str, Json]:
        """What a row of a dataset keeps of it: rollout, call and both answers, and nobody's name."""
        return {"rollout": self.rollout, "mode": self.mode, "call": self.call, "index": self.index} | {
            "answers": self.answers
        }


@dataclass(frozen=True, slots=True)
class DisagreementState:
    """What a rollout has seen and kept of them, in a sentence too.

    `pairs` are the calls that both versions answered, `differing` how many of these they answered differently (a call
    of several inputs counts by its share). `kept` rows wait for labels; `left_out` counts what was not kept, by reason.
    """

    pairs: int = 0
    differing: float = 0.0
    kept: int = 0
    is_on: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    sentence: str = ""
