"""The questions of a soak: every task of the cast, prompts of all lengths, many that begin alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from bench import data
from bench.traffic import LEAST_MARGIN, Caller, Json, Question

TEXTS = 400
WORDS = (4, 120)  # of a prompt's own part
TOKENS = (2, 32)  # of an answer
LONG_WORDS = 90  # of a beginning that many share
RULE = r"(yes|no|maybe), [a-z]{3,9}\."
MANY = 600  # short inputs in a call that fills the queue
GENERATED, VOICED, READ = 24, 6, 8


def questions(folder: Path, seed: int = 11) -> list[Question]:
    """What is asked, without answers yet."""
    texts, chance = data.ragged_texts(folder, TEXTS, seed), random.Random(seed)
    starts = [" ".join(" ".join(chance.sample(texts, 12)).split()[:LONG_WORDS]) for _ in range(4)]
    made = [_generation_question("smollm2", texts, starts, chance) for _ in range(GENERATED)]
    for name in ("soak-voice-1", "soak-voice-2"):
        made += [_generation_question(name, texts, starts, chance) for _ in range(VOICED)]
    made += [_generation_question("smollm2", texts, starts, chance, n=2) for _ in range(3)]
    for _ in range(3):
        prompt = f"{chance.choice(texts)} Is that good?"
        made.append(Question("chat", "smollm2", (prompt,), {"temperature": 1.0, "regex": RULE}, rule=RULE))
    for task, model in (
        ("embed", "minilm"),
        ("embed", "soak-vector-1"),
        ("embed", "soak-vector-2"),
        ("classify", "soak-mood"),
        ("tag", "soak-names"),
    ):
        made += [Question(task, model, tuple(chance.sample(texts, chance.randint(1, 9))), {}) for _ in range(READ)]
    for _ in range(READ):
        asked = {"query": chance.choice(texts), "documents": chance.sample(texts, 5)}
        made.append(Question("rerank", "minilm", (asked,), {}))
    short = [" ".join(text.split()[:6]) for text in texts]
    made += [Question("embed", "minilm", tuple(chance.choices(short, k=MANY)), {}) for _ in range(4)]
    return made


def alone(caller: Caller, asked: Sequence[Question]) -> tuple[list[Question], int]:
    """The questions with their right answers; and how many are left out, for the choice of a token was too close."""
    answered = [(one, float("inf")) if one.rule else caller.alone(one) for one in asked]
    sure = [one for one, margin in answered if margin >= LEAST_MARGIN]
    return sure, len(asked) - len(sure)


def _generation_question(
    model: str, texts: Sequence[str], starts: Sequence[str], chance: random.Random, n: int | None = None
) -> Question:
    """A prompt to go on from or a message to answer, after a beginning that others share or none."""
    words = " ".join(chance.sample(texts, 10)).split()[: chance.randint(*WORDS)]
    start = f"{chance.choice(starts)}\n\n" if chance.random() < 0.5 else ""
    params: dict[str, Json] = {"temperature": 0, "max_tokens": chance.randint(*TOKENS)}
    params |= {"n": n} if n else {}
    params |= {"stop": ["\n"]} if chance.random() < 0.2 else {}
    return Question(chance.choice(("generate", "chat")), model, (start + " ".join(words),), params)
