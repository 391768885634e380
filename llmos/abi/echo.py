"""Whether a sender sends a model's own answers back: a test that may be looked at after every row.

A person who says what is right agrees with a model about as often as the model is right. A client that returns answers
agrees always. The test bets that the agreement is more frequent than the accuracy `a` allows, at the odds of
q = (1 + a) / 2: each row multiplies the evidence by q/a if it agrees, else by (1-q)/(1-a). While agreement is at most
as frequent as `a`, the evidence is a supermartingale, so it ever reaches 1,000 with probability 1/1,000 at most (Ville
1939; Shafer 2021, Testing by betting).
"""

from __future__ import annotations

import math

MOST_EVIDENCE = math.log(1_000.0)
MOST_ACCURACY = 0.995  # a model that is believed to be right more often is taken as right this often
LEAST_ACCURACY = 0.05


def evidence_of_echo(agreed: int, differed: int, accuracy: float) -> float:
    """The logarithm of the evidence that agreement is more frequent than this accuracy."""
    a = min(max(accuracy, LEAST_ACCURACY), MOST_ACCURACY)
    q = (1.0 + a) / 2.0
    return agreed * math.log(q / a) + differed * math.log((1.0 - q) / (1.0 - a))


def is_echo(agreed: int, differed: int, accuracy: float) -> bool:
    """Whether a sender agrees too often for a model of this accuracy to be judged by anybody."""
    return evidence_of_echo(agreed, differed, accuracy) >= MOST_EVIDENCE
