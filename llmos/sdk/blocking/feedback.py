"""Parts of Client. Made by tools/sync_client.py from aio/feedback.py: edit that file."""

from __future__ import annotations

from llmos.abi.call_record import CallRecord
from llmos.abi.call_trace import CallTrace
from llmos.abi.feedback import FeedbackRow
from llmos.abi.json_type import Json
from llmos.abi.learning import FEEDBACK, LearningState
from llmos.sdk import feedback_requests
from llmos.sdk.blocking.connection import DaemonConnection


class FeedbackClient(DaemonConnection):
    """Feedback, learning from it, and the request log."""

    def feedback(
        self,
        call: str | None = None,
        *,
        model: str | None = None,
        input: Json = None,
        label: Json = None,
        score: float | None = None,
        text: str | None = None,
        index: int | None = None,
        user: str | None = None,
        source: str | None = None,
        new_label: bool | None = None,
    ) -> FeedbackRow:
        """Say what an answer should have been; the row is durable when this returns.

        Name the answer by its `call` (`last_call_id`), or say `model` and `input`. Give `label`, `score` or `text`.
        """
        said = {"call": call, "model": model, "input": input, "label": label, "score": score, "text": text}
        more = {"index": index, "user": user, "source": source, "new_label": new_label}
        return self._ask(feedback_requests.give_feedback(**said, **more))

    def feedback_rows(
        self, *, model: str | None = None, user: str | None = None, limit: int | None = None
    ) -> list[FeedbackRow]:
        """The newest rows of feedback."""
        return self._ask(feedback_requests.feedback_rows(model=model, user=user, limit=limit))

    def erase_feedback(self, user: str) -> int:
        """Erase the rows that a user gave, and those on a user's calls; returns how many there were."""
        return self._ask(feedback_requests.erase_feedback(user))

    def learn(self, name: str, when: str | None = None, *, source: str = FEEDBACK) -> LearningState:
        """Train the model again whenever so many further rows have come ("200 rows"); without `when`, how it stands."""
        return self._ask(feedback_requests.learn(name, when, source))

    def stop_learning(self, name: str) -> LearningState:
        """Learn no more; what is at work goes on."""
        return self._ask(feedback_requests.stop_learning(name))

    def requests(
        self,
        *,
        model: str | None = None,
        user: str | None = None,
        outcome: str | None = None,
        day: str | None = None,
        limit: int | None = None,
    ) -> list[CallRecord]:
        """The newest calls in the request log, without their texts; `day` is in UTC, such as 2026-01-31."""
        wanted = {"model": model, "user": user, "outcome": outcome, "day": day, "limit": limit}
        return self._ask(feedback_requests.requests(**wanted))

    def request(self, call: str) -> CallRecord:
        """A call in the request log, with its text where it was kept."""
        return self._ask(feedback_requests.request(call))

    def call_trace(self, call: str) -> CallTrace:
        """How long each stage of a recent call took; the log need not be on. `last_call_id` names the last one."""
        return self._ask(feedback_requests.call_trace(call))

    def erase_requests(self, user: str) -> int:
        """Erase a user's calls from the request log; returns how many there were."""
        return self._ask(feedback_requests.erase_requests(user))
