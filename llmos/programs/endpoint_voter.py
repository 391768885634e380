"""A voter that asks a model behind an OpenAI-shaped address: a few requests at a time, again after passing failures.

Every answer is kept in a file at once, by the digest of what was asked: a run that is started again asks, and pays, for
the rest alone. Texts are not kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from llmos.abi.error import BadInput, Forbidden, LlmosError, Offline
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.weak_labels import answers_name
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.weak_labels.prompt import messages
from llmos.data.weak_labels.rules import EndpointRule
from llmos.data.weak_labels.voters import ABSTAIN, text_of_row
from llmos.programs.channel import Channel, Stopped

AT_ONCE = 4  # requests
ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
TIMEOUT_S = 120.0
BATCH = 32  # rows between two looks at whether to stop
MOST_CHARS = 8_000  # of a text
MOST_TOKENS = 32  # of an answer
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
Stored = StoredRow[Any]  # Any: a row of the task's family


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """What the model wrote, and how likely it found that; None where the server does not say."""

    text: str
    probability: float | None


@dataclass(slots=True)
class KeptAnswers:
    """Answers by the digest of their request, a line each in a file that only grows; a torn last line is left out."""

    path: Path
    by_digest: dict[str, EndpointAnswer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> None:
        if not self.path.exists():
            return
        for line in self.path.read_bytes().split(b"\n"):
            try:
                digest, text, probability = json.loads(line)
            except ValueError:
                continue
            self.by_digest[digest] = EndpointAnswer(text, probability)

    def add(self, digest: str, answer: EndpointAnswer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        line = b"\n" + json.dumps([digest, answer.text, answer.probability]).encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as out:
                out.write(line)
                out.flush()
                os.fsync(out.fileno())
            self.by_digest[digest] = answer


@dataclass(slots=True)
class EndpointVoter:
    """The label that the model's answer is, where it is at least as likely as the rule says."""

    channel: Channel
    rule: EndpointRule
    numbers: dict[str, int]
    kept: KeptAnswers
    client: httpx.Client
    asked: int = 0  # requests that were sent
    first_wait_s: float = FIRST_WAIT_S
    _ending: threading.Event = field(default_factory=threading.Event)

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        found: list[int] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(rows), BATCH):
                if self.channel.stop_asked:
                    raise Stopped
                found += self._batch(pool, [text_of_row(one)[:MOST_CHARS] for one in rows[start : start + BATCH]])
                self.channel.report(Progress("ask", len(found), len(rows), "rows"))
        return found

    def _batch(self, pool: ThreadPoolExecutor, texts: Sequence[str]) -> list[int]:
        waiting = [pool.submit(self._answer, text) for text in texts]
        try:
            return [self._vote(one.result()) for one in waiting]
        except BaseException:
            self._ending.set()  # others that wait to ask again do not
            for one in waiting:
                one.cancel()
            raise

    def _vote(self, answer: EndpointAnswer) -> int:
        said = _plain(answer.text)
        number = next((number for label, number in self.numbers.items() if _plain(label) == said), ABSTAIN)
        is_sure = answer.probability is None or answer.probability >= self.rule.least
        return number if is_sure else ABSTAIN

    def _answer(self, text: str) -> EndpointAnswer:
        body: dict[str, Json] = {
            "model": self.rule.model,
            "messages": messages(self.rule.labels, self.rule.examples, text),
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
            "logprobs": True,
        }
        digest = hashlib.sha256(json.dumps([self.rule.url, body], sort_keys=True).encode()).hexdigest()
        if (known := self.kept.by_digest.get(digest)) is not None:
            return known
        answer = answer_in(self._post(body), self.rule)
        self.kept.add(digest, answer)
        return answer

    def _post(self, body: dict[str, Json]) -> httpx.Response:
        """The server's answer; Offline after the last attempt, BadInput for what it refuses."""
        wait, why = self.first_wait_s, ""
        for attempt in range(ATTEMPTS):
            if attempt and self._ending.wait(wait):
                break
            self.asked += 1
            try:
                answer = self.client.post(f"{self.rule.url}/chat/completions", json=body)
            except httpx.TransportError as error:
                why, wait = type(error).__name__, min(2 * wait, LONGEST_WAIT_S)
                continue
            if answer.status_code not in PASSING:
                return _check(answer, self.rule)
            why, wait = f"status {answer.status_code}", _wait_of(answer, min(2 * wait, LONGEST_WAIT_S))
        raise Offline(
            f"{self.rule.url} does not answer ({why}, after {ATTEMPTS} attempts). Answers so far are kept: start it "
            "again when the server is there",
            url=self.rule.url,
        )


def _check(answer: httpx.Response, rule: EndpointRule) -> httpx.Response:
    if answer.status_code in (401, 403):
        raise Forbidden(
            f"{rule.url} refuses the key (status {answer.status_code}). Give the daemon the right one: "
            "LLMOS_ENDPOINT_KEY in its environment, or endpoint_key in config.toml",
            key="endpoint_key",
        )
    if not answer.is_success:
        raise BadInput(
            f"{rule.url} refuses to answer for {rule.model} (status {answer.status_code}): {answer.text[:300]}",
            url=rule.url,
            status=answer.status_code,
        )
    return answer


def answer_in(response: httpx.Response, rule: EndpointRule) -> EndpointAnswer:
    """The text of a completion, and the product of its tokens' probabilities; BadInput if it is none."""
    try:
        choice = response.json()["choices"][0]
        text = str(choice["message"]["content"] or "")
        scored = (choice.get("logprobs") or {}).get("content")
        found = None if not scored else math.exp(min(0.0, sum(float(one["logprob"]) for one in scored)))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{rule.url} does not answer as OpenAI's chat completions do. Its address ends with /v1", url=rule.url
        ) from error
    return EndpointAnswer(text, found)


def _plain(text: str) -> str:
    """A label as it may be answered: in any case, in quotes or with a full stop."""
    return " ".join(text.casefold().removeprefix("label:").strip(" \t\r\n.,;:!\"'`*").split())


def _wait_of(answer: httpx.Response, otherwise: float) -> float:
    """The seconds that the server asks for, within bounds."""
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(answer.headers["Retry-After"])))
    except (KeyError, ValueError):
        return otherwise


def endpoint_voter(
    channel: Channel, job: Job, rule: EndpointRule, numbers: dict[str, int], where: str
) -> EndpointVoter:
    """The voter of a rule; Forbidden for a server that the daemon's owner has not named."""
    hosts = [str(one) for one in job.args.get("endpoint_hosts") or ()]
    if rule.host not in hosts:
        error: LlmosError = Forbidden(
            f"{where}: rows may not be sent to {rule.host}. Its owner allows the daemon to: endpoint_hosts = "
            f'["{rule.host}"] in config.toml, or LLMOS_ENDPOINT_HOSTS',
            key="endpoint_hosts",
            value=rule.host,
        )
        raise error
    key = job.args.get("api_key")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    client = httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
    folder = Path(str(job.args.get("asked") or Path(job.scratch) / "asked"))
    kept = KeptAnswers(folder / f"{answers_name(rule.url, rule.model)}.jsonl")
    kept.read()
    return EndpointVoter(channel, rule, numbers, kept, client)
