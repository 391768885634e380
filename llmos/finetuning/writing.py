"""What a candidate writes where rows have answers: the likeliest text, as serving renders and ends it, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from llmos.finetuning.candidate import Candidate
from llmos.finetuning.examples import Example
from llmos.finetuning.predict import Predicted
from llmos.finetuning.row import Row
from llmos.nn.generate import Generation
from llmos.nn.kv import KV, Pool, token_bytes
from llmos.nn.pack import next_logits, pack
from llmos.tasks import WRITING, Settings
from llmos.tasks import task as task_of
from llmos.tasks.generate import Sampling

ROWS = 200  # how many are answered, unless the option `answered_rows` says another number
LONGER = 2  # times the longest answer of these rows an answer may have tokens
AT_ONCE = 32
STEP_TOKENS = 512
POOL_BYTES = 1 << 28


def answered(
    candidate: Candidate,
    task: str,
    rows: Sequence[Row],
    examples: Sequence[Example],
    predicted: Sequence[Predicted],
    settings: Settings,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Predicted]:
    """The predictions, with what is written to as many of the rows as the options say, evenly out of all of them."""
    if task not in WRITING:
        return list(predicted)
    chosen = chosen_of(len(rows), settings)
    longest = max((len(lesson.targets) for i in chosen for lesson in examples[i].rendered.context[-1:]), default=1)
    prompts = [task_of(task).render([rows[i].input], candidate.loaded.tokenizer, settings)[0].ids for i in chosen]
    candidate.train(False)
    texts = write(candidate, prompts, LONGER * longest, on_done=on_done)
    found = list(predicted)
    for i, text in zip(chosen, texts, strict=True):
        found[i] = replace(found[i], answer=text)
    return found


def chosen_of(count: int, settings: Settings) -> list[int]:
    """Which rows are answered: all, or so many at equal distances."""
    most = int(settings.options.get("answered_rows", ROWS))
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def said_of_answers(task: str, count: int, settings: Settings) -> dict[str, str]:
    """For the evidence: how many rows were answered, and how."""
    if task not in WRITING:
        return {}
    most = f"at most {LONGER} times as long as the longest true one"
    return {"answers": f"to {len(chosen_of(count, settings)):,} of {count:,} test rows, greedy, {most}"}


@torch.inference_mode()
def write(
    candidate: Candidate,
    prompts: Sequence[list[int]],
    most: int,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The likeliest continuation of each prompt, of at most so many tokens, or what the model has room for."""
    loaded = candidate.loaded
    assert loaded.causal is not None
    room = loaded.max_tokens
    each = token_bytes(loaded.config, 4)
    longest = max((len(prompt) for prompt in prompts), default=0) + most
    pool = Pool(max(POOL_BYTES, 2 * each * longest), each, loaded.device)
    waiting = []
    for i, ids in sorted(enumerate(prompts), key=lambda one: -len(one[1])):
        settings = Sampling(temperature=0.0, max_tokens=max(1, min(most, room - len(ids))))
        waiting.append((i, Generation(ids, settings, loaded.tokenizer, loaded.ends, room), KV(pool, b"", ids)))
    live: list[tuple[int, Generation, KV]] = []
    texts = [""] * len(prompts)
    done = 0
    while waiting or live:
        while waiting and len(live) < AT_ONCE and waiting[-1][2].grow(len(waiting[-1][1].ids) + most):
            live.append(waiting.pop())
        assert live, "a pool has room for the longest answer"
        row, left = [], STEP_TOKENS
        for one in live:
            if left > 0:
                row.append((one, one[1].next_ids(left)))
                left -= len(row[-1][1])
        with candidate.computing():
            packed = pack([ids for _, ids in row], loaded.device, [kv.length for (_, _, kv), _ in row])
            logits = next_logits(loaded.causal, packed, [kv for (_, _, kv), _ in row]).float()
        for ((i, generation, kv), ids), scores in zip(row, logits, strict=True):
            kv.advance(ids)
            generation.computed(len(ids), scores)
            if generation.finish_reason is not None:
                texts[i] = generation.text
                kv.release()
                done += 1
        live = [one for one in live if one[1].finish_reason is None]
        on_done(done)
    return texts
