"""Asks a model behind an OpenAI-shaped address: a few requests at a time, again after passing failures.

Every answer is kept in a file at once, by the digest of what was asked: a run that is started again asks, and pays, for
the rest alone. What was asked is not kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from llmos.abi.endpoint import EndpointAddress
from llmos.abi.error import BadInput, Forbidden, Offline
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.weak_labels import answers_name
from llmos.programs.channel import Channel, Stopped

AT_ONCE = 4  # requests
ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
TIMEOUT_S = 120.0
REFUSED = "refused.jsonl"  # of a run's scratch folder
BATCH = 32  # requests between two looks at whether to stop
REFUSING = frozenset({400, 413, 422})  # one request, or a form of it
PASSED_OVER = 3  # requests that are answered in a later form alone, and none in this one: then the server lacks it
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})

Bodies = Sequence[dict[str, Json]]
ScoredToken = tuple[str, float, dict[str, float]]
"""A token, its log-probability in nats, and those of the tokens that it was chosen among."""


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """What the model wrote; how likely it found that, and its tokens, where the server says so; and how long it took.

    `is_whole`: it came to its end by itself. `refusal`: why the server does not answer this one request.
    """

    text: str
    probability: float | None
    tokens: tuple[ScoredToken, ...] = ()
    seconds: float = 0.0
    is_whole: bool = True
    refusal: str = ""


@dataclass(slots=True)
class KeptAnswers:
    """Answers by the digest of their request, a line each in a file that only grows; a torn last line is left out."""

    path: Path
    by_digest: dict[str, EndpointAnswer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> None:
        if not self.path.exists():
            return
        os.utime(self.path)  # `gc` looks at when answers were last used
        for line in self.path.read_bytes().split(b"\n"):
            try:
                digest, text, probability, *more = json.loads(line)
                self.by_digest[digest] = _read_answer(text, probability, *more)
            except (ValueError, TypeError):
                continue

    def add(self, digest: str, answer: EndpointAnswer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        said = [answer.text, answer.probability, answer.tokens, answer.seconds, answer.is_whole]
        line = b"\n" + json.dumps([digest, *said]).encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as out:
                out.write(line)
                out.flush()
                os.fsync(out.fileno())
            self.by_digest[digest] = answer


def _read_answer(
    text: str, probability: float | None, tokens: Any = (), seconds: float = 0.0, is_whole: bool = True
) -> Any:
    """An answer as a line has it; lines of earlier versions have its text and probability alone."""
    return EndpointAnswer(text, probability, tuple((a, b, c) for a, b, c in tokens), seconds, is_whole)


@dataclass(slots=True)
class KnownForm:
    """In which of its forms a request is sent first: the first that the server takes, by what it has taken so far.

    A form is given up only if the server has never taken it, and has answered a few requests in a later one alone: a
    single request may be refused for its own sake, such as for its length.
    """

    first: int = 0
    _is_taken: bool = False
    _passed_over: list[int] = field(default_factory=list)  # the forms of those requests
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def learn(self, asked: int, taken: int) -> None:
        """A request that was sent in `asked` first was answered in `taken`."""
        with self._lock:
            if asked != self.first:  # others have told more meanwhile
                return
            if taken == asked:
                self._is_taken = True
                return
            self._passed_over.append(taken)
            if not self._is_taken and len(self._passed_over) >= PASSED_OVER:
                self.first, self._passed_over = min(self._passed_over), []


@dataclass(slots=True)
class EndpointClient:
    """One model behind an address; a context that closes its connections. `asked` counts the requests sent."""

    endpoint: EndpointAddress
    connections: httpx.Client
    kept: KeptAnswers
    refused: (
        KeptAnswers  # the text of each is why; of this run alone, for a server may take another time what it refused
    )
    asked: int = 0
    first_wait_s: float = FIRST_WAIT_S
    _ending: threading.Event = field(default_factory=threading.Event)
    _form: KnownForm = field(default_factory=KnownForm)

    def __enter__(self) -> EndpointClient:
        return self

    def __exit__(self, *why: object) -> None:
        self.connections.close()

    def ask(
        self, requests: Sequence[Bodies], channel: Channel, *, may_refuse: bool = False
    ) -> Iterator[EndpointAnswer]:
        """The answer to each request, in order. A request has forms, of which the first that the server takes is sent;
        Stopped between two batches if the process was asked to stop.

        `may_refuse`: some requests may be refused, such as those that are too long for the model. BadInput where the
        server refuses one without that, or all of the first batch.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(requests), BATCH):
                if channel.stop_asked:
                    raise Stopped
                found = self._batch(pool, requests[start : start + BATCH])
                refusals = [one.refusal for one in found if one.refusal]
                if refusals and (not may_refuse or (not start and len(refusals) == len(found))):
                    raise BadInput(refusals[0], url=self.endpoint.url)
                for bodies, one in zip(requests[start : start + BATCH], found, strict=True):
                    if one.refusal and self._digest(bodies) not in self.refused.by_digest:
                        self.refused.add(self._digest(bodies), EndpointAnswer(one.refusal, None))
                yield from found

    def _batch(self, pool: ThreadPoolExecutor, requests: Sequence[Bodies]) -> list[EndpointAnswer]:
        waiting = [pool.submit(self._answer, bodies) for bodies in requests]
        try:
            return [one.result() for one in waiting]
        except BaseException:
            self._ending.set()  # others that wait to ask again do not
            for one in waiting:
                one.cancel()
            raise

    def _answer(self, bodies: Bodies) -> EndpointAnswer:
        digest = self._digest(bodies)
        if (known := self.kept.by_digest.get(digest)) is not None:
            return known
        if (why := self.refused.by_digest.get(digest)) is not None:
            return EndpointAnswer("", None, is_whole=False, refusal=why.text)
        answer = self._in_some_form(bodies)
        if not answer.refusal:
            self.kept.add(digest, answer)
        return answer

    def _digest(self, bodies: Bodies) -> str:
        return hashlib.sha256(json.dumps([self.endpoint.url, bodies[0]], sort_keys=True).encode()).hexdigest()

    def _in_some_form(self, bodies: Bodies) -> EndpointAnswer:
        """The answer to the first form that the server takes."""
        refusal, first = "", min(self._form.first, len(bodies) - 1)
        for form in range(first, len(bodies)):
            began = time.monotonic()
            answer = self._post(bodies[form])
            if answer.status_code in REFUSING:
                refusal = refusal or _describe_refusal(answer, self.endpoint)
                continue
            found = answer_in(_check(answer, self.endpoint), self.endpoint, time.monotonic() - began)
            self._form.learn(first, form)
            return found
        return EndpointAnswer("", None, is_whole=False, refusal=refusal)

    def _post(self, body: dict[str, Json]) -> httpx.Response:
        """The server's answer, whatever its status is unless that passes; Offline after the last attempt."""
        wait, why = self.first_wait_s, ""
        for attempt in range(ATTEMPTS):
            if attempt and self._ending.wait(wait):
                break
            self.asked += 1
            try:
                answer = self.connections.post(f"{self.endpoint.url}/chat/completions", json=body)
            except httpx.TransportError as error:
                why, wait = type(error).__name__, min(2 * wait, LONGEST_WAIT_S)
                continue
            if answer.status_code not in PASSING:
                return answer
            why, wait = f"status {answer.status_code}", _wait_of(answer, min(2 * wait, LONGEST_WAIT_S))
        raise Offline(
            f"{self.endpoint.url} does not answer ({why}, after {ATTEMPTS} attempts). Answers so far are kept: start "
            "it again when the server is there",
            url=self.endpoint.url,
        )


def _check(answer: httpx.Response, endpoint: EndpointAddress) -> httpx.Response:
    status = answer.status_code
    if status in (401, 403):
        raise Forbidden(
            f"{endpoint.url} refuses the key (status {status}). Give the daemon the right one: "
            "LLMOS_ENDPOINT_KEY in its environment, or endpoint_key in config.toml",
            key="endpoint_key",
        )
    if not answer.is_success:
        raise BadInput(_describe_refusal(answer, endpoint), url=endpoint.url, status=status)
    return answer


def _describe_refusal(answer: httpx.Response, endpoint: EndpointAddress) -> str:
    why = f"refuses to answer for {endpoint.model}"
    if answer.status_code == 404:
        why = f"has no model {endpoint.model}, or is no OpenAI-shaped address"
    return f"{endpoint.url} {why} (status {answer.status_code}): {answer.text[:300]}"


def answer_in(response: httpx.Response, endpoint: EndpointAddress, seconds: float = 0.0) -> EndpointAnswer:
    """The text of a completion, and the product of its tokens' probabilities; BadInput if it is none."""
    try:
        choice = response.json()["choices"][0]
        text = str(choice["message"]["content"] or "")
        scored = (choice.get("logprobs") or {}).get("content") or []
        tokens = tuple(map(_token_of, scored))
        is_whole = choice.get("finish_reason") != "length"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{endpoint.url} does not answer as OpenAI's chat completions do. Its address ends with /v1",
            url=endpoint.url,
        ) from error
    likely = math.exp(min(0.0, sum(logprob for _, logprob, _ in tokens))) if tokens else None
    return EndpointAnswer(text, likely, tokens, round(seconds, 4), is_whole)


def _token_of(one: Json) -> ScoredToken:
    among = {str(top["token"]): float(top["logprob"]) for top in one.get("top_logprobs") or ()}
    return str(one["token"]), float(one["logprob"]), among


def _wait_of(answer: httpx.Response, otherwise: float) -> float:
    """The seconds that the server asks for, within bounds."""
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(answer.headers["Retry-After"])))
    except (KeyError, ValueError):
        return otherwise


def endpoint_client(job: Job, endpoint: EndpointAddress, where: str) -> EndpointClient:
    """The client of an endpoint that `where` names; Forbidden for a server that the daemon's owner has not named."""
    hosts = [str(one) for one in job.args.get("endpoint_hosts") or ()]
    if endpoint.host not in hosts:
        raise Forbidden(
            f"{where}: rows may not be sent to {endpoint.host}. Its owner allows the daemon to: endpoint_hosts = "
            f'["{endpoint.host}"] in config.toml, or LLMOS_ENDPOINT_HOSTS',
            key="endpoint_hosts",
            value=endpoint.host,
        )
    key = job.args.get("api_key")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    client = httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
    folder = Path(str(job.args.get("asked") or Path(job.scratch) / "asked"))
    kept = KeptAnswers(folder / f"{answers_name(endpoint.url, endpoint.model)}.jsonl")
    kept.read()
    refused = KeptAnswers(Path(job.scratch) / REFUSED)
    refused.read()
    return EndpointClient(endpoint, client, kept, refused)


def median_seconds(answers: Sequence[EndpointAnswer]) -> float:
    """How long an answer took, in the middle; 0 where none says it."""
    return median([one.seconds for one in answers if one.seconds > 0] or [0.0])
