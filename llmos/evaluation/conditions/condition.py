"""A condition of the gate: what it may look at, and what it says of one requirement.

To add one, say of calibration:

1. In `llmos/abi/gate.py`, its word in `KINDS`: how the requirement is written, and one sentence of help. That is all
   that the daemon, HTTP, the command line and the client need to take, store and show it.
2. A file in this folder with a function `check(requirement, facts)` that returns a `Checked`. It runs once, after the
   candidate was evaluated, in the process that trained it; it may import torch and take time.
3. Its word in `CONDITIONS` of this folder's `__init__.py`. A test holds that the two registries have the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llmos.abi.gate import Requirement
from llmos.abi.json_type import Json
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.statistics.comparison import Comparison

if TYPE_CHECKING:
    from llmos.data.row import Row
    from llmos.evaluation.evaluator import Evaluator
    from llmos.evaluation.judge import RowFindings


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The promoted version: how the candidate compares with it on the same test rows, or why it could not be compared.

    `note` says how it was compared, where its labels or the rows differ; `ours` is the candidate's primary metric on
    the rows that were compared, where those are not all the test rows. `new_labels` are those that the candidate alone
    has. `earlier` compares both on the rows that the promoted version was tested on and the candidate was not;
    `earlier_note` says what was left out of these, or why there are none.
    """

    ref: str
    task: str
    comparison: Comparison | None = None
    note: str = ""
    ours: float | None = None
    new_labels: tuple[str, ...] = ()
    earlier: Comparison | None = None
    earlier_note: str = ""


@dataclass(frozen=True, slots=True)
class GateFacts:
    """All that a condition may look at. `rows` are the test rows, `predicted` the candidate's predictions of them in
    order, in the types of the task's family (`evaluation/families`); `evaluator` predicts and judges any other rows.

    `size_bytes` are of the candidate's own files. `evaluator` is None only in tests of conditions that need none.
    """

    task: str
    metric: str  # the primary one, which is compared
    result: EvaluationResult
    margin: float = 0.0
    incumbent: Incumbent | None = None
    size_bytes: int = 0
    rows: Sequence[Row] = ()
    predicted: Sequence[Any] = ()  # Any: each family has its own type
    raw: Sequence[Any] = ()  # the same before calibration
    findings: RowFindings | None = None  # outcomes by row, and every slice
    evaluator: Evaluator | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a condition says: whether the requirement is met, its number, and a sentence that has the number in it.

    `low` and `high` are the number's interval, where it has one. `standing` is better, not worse, worse or cannot tell
    where models are compared, and `p` then says how sure that is; `more_rows` would decide it.
    """

    is_met: bool
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    standing: str = ""
    p: float | None = None
    more_rows: int | None = None

    def plain(self, requirement: Requirement) -> dict[str, Json]:
        """As evidence keeps it: the requirement, and what there is to say."""
        said = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        return {"require": str(requirement), **said}


class Condition(Protocol):
    """Checks the requirements of one kind."""

    def __call__(self, requirement: Requirement, facts: GateFacts) -> Checked:
        """What there is to say of this requirement. What cannot be measured is not met, and the sentence says why."""
        ...
