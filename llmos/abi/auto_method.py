"""The rule for `method: auto`: which method trains a model, by its task, its base and the number of labelled rows.

Its evidence is in docs/log.md, "The rule for methods". Nothing here reads files: the kernel asks which methods may be
chosen, for the memory that admission reserves, and a training run asks for its own once it has read its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmos.abi.method import method_of
from llmos.abi.task import spec_of

AUTO = "auto"
BEFORE_AUTO = "full"  # what a recipe without a method meant before there was a rule
ADAPTER, WHOLE = "lora", "full"
MOST_WHOLE_BYTES = 512 * 2**20  # of a base whose labelling models are trained by all weights


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """What the rule looks at.

    `rows` are labelled rows to train on. A static base is a table of token vectors. `base_bytes` is what each fully
    fine-tuned model takes in memory.
    """

    task: str
    rows: int
    base_bytes: int
    is_static: bool = False
    needs_frozen_base: bool = False


@dataclass(frozen=True, slots=True)
class ChosenMethod:
    """A method, and why it was chosen: the end of a sentence that begins with `because`."""

    method: str
    why: str

    @property
    def sentence(self) -> str:
        return f"auto: {self.method}, because {self.why}"


def choosable(task: str, *, is_static: bool, needs_frozen_base: bool = False) -> tuple[str, ...]:
    """The methods that the rule may choose, whatever the rows are."""
    if is_static:
        return (WHOLE,)
    if needs_frozen_base or spec_of(task).is_generative:
        return (ADAPTER,)
    return (ADAPTER, WHOLE)


def choose_method(facts: MethodFacts) -> ChosenMethod:
    """The method of a model that names none."""
    if facts.is_static:
        return ChosenMethod(WHOLE, "the base is a table of token vectors, without layers for an adapter")
    if facts.needs_frozen_base:
        return ChosenMethod(ADAPTER, "what was asked needs a base that stays as it is")
    own = f"a whole model takes {facts.base_bytes / 1e6:,.0f} MB of its own"
    if spec_of(facts.task).is_generative:
        return ChosenMethod(ADAPTER, f"it learned as much as all weights from few rows, and {own}")
    return ChosenMethod(ADAPTER, f"{facts.rows:,} rows, and {own}")


def labelling_method(method: str, base_bytes: int, *, needs_frozen_base: bool = False) -> str:
    """The method of models that only give labels to rows, in a run by `method`: all weights, for nothing of them is
    kept and they learn more from few rows; the run's own where layers are not trained, or the base is large."""
    is_own = needs_frozen_base or base_bytes > MOST_WHOLE_BYTES or not method_of(method).trains_layers
    return method if is_own else WHOLE
