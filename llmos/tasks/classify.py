"""classify: one label for a text, or any number of them (option `multi_label`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSetting, TaskSpec
from llmos.tasks import Rendered, Settings, Task, Tokenizer
from llmos.tasks.calibration import NONE, Calibration, least_share, least_surety, refuse_calibration
from llmos.tasks.text import encode_within, quote_value, text_of

THRESHOLD = 0.5
LABEL_SETTINGS = (
    TaskSetting("multi_label", bool, "A text may have several labels.", neutral=False),
    TaskSetting("class_weights", str, "Weights of the loss: none or balanced.", neutral="none", is_option=False),
    TaskSetting("label_smoothing", float, "Label smoothing of the loss, 0 to 1.", neutral=0.0, is_option=False),
)
CONFIDENCE_SETTINGS = (
    TaskSetting("abstain", float, "Withhold answers, so that at most this share of those given is wrong.", neutral=0.0),
    TaskSetting("precision", float, "Give a label only from the score on that has this precision.", neutral=0.0),
    TaskSetting("oos_label", str, "The label of rows that are out of scope (default: known names, such as oos)."),
)
OF_BASE = ("labels", "hypothesis")  # params of a base, which has no labels of its own

SEPARATOR = TaskSetting("label_separator", str, "What parts several labels in one cell (default: found by the cells).")


class Classify:
    """`parse` takes the logits of one input, one per label."""

    spec = TaskSpec(
        name="classify",
        family=Family.LABELS,
        output=Output.LABEL,
        primary_metric="accuracy",
        about="The label of a text, or any number of labels.",
        head="sequence",
        params=frozenset({"top_k", "threshold", "abstain", "coverage", *OF_BASE}),
        settings=(*LABEL_SETTINGS, SEPARATOR, TaskSetting("threshold", float), *CONFIDENCE_SETTINGS),
        batch_size=32,
        is_one_sequence=True,
        peft_type="SEQ_CLS",
        architecture="ForSequenceClassification",
        example_input="Where is my parcel?",
        example_output={"label": "delivery", "score": 0.98, "scores": {"delivery": 0.98, "billing": 0.02}},
    )

    def of_model(self, ref: str, labels: Sequence[str], params: dict[str, Json]) -> Task:
        """A model without labels of its own compares the text with the call's labels (zero-shot)."""
        if not labels:
            from llmos.tasks.zeroshot import zero_shot  # not above: zero-shot is made of this task

            return zero_shot(ref, params)
        refuse_labels(ref, labels, params)
        return self

    def check(self, data: Json) -> Json:
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        texts = [one["text"] for one in inputs]
        return [Rendered(one.ids) for one in encode_within(texts, "The text", tokenizer, settings)]

    def parse(self, raw: Sequence[float], rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        if settings.options.get("multi_label", False):
            return _choose_many(raw, settings, params)
        if params.get("threshold") is not None:
            raise BadInput(
                "threshold is for multi-label models; this model gives one label", key="threshold", reason="one_label"
            )
        calibration = settings.calibration or NONE
        ranked = _rank_labels(settings.labels, softmax(calibration.scale(raw, settings.labels)))
        label, score = ranked[0]
        answer: dict[str, Json] = {"label": label, "score": score, "scores": dict(top(ranked, params))}
        if (least := least_share(settings.calibration, params)) is not None:
            shares = dict(zip(settings.labels, softmax(raw), strict=True))
            answer["set"] = [name for name, _ in ranked if shares[name] >= least or name == label]
        is_short = None if calibration.precision is None else score < calibration.thresholds.get(label, 0.0)
        withheld = _withholds(raw, settings, params, is_short=is_short)
        return answer if withheld is None else {**answer, "label": None if withheld else label, "abstained": withheld}


def _choose_many(raw: Sequence[float], settings: Settings, params: dict[str, Json]) -> Json:
    """Every label from its threshold on."""
    refuse_calibration({"coverage": params.get("coverage")}, "a model of several labels gives a set of them already")
    calibration = settings.calibration or NONE
    ranked = _rank_labels(settings.labels, [sigmoid(x) for x in calibration.scale(raw, settings.labels)])
    least = thresholds_of(settings, params)
    given = [label for label, share in ranked if share >= least[label]]
    answer: dict[str, Json] = {"labels": given, "scores": dict(top(ranked, params))}
    withheld = _withholds(raw, settings, params)
    if withheld is None:
        return answer
    if params.get("threshold") is not None:
        raise BadInput(
            "threshold changes the answers that abstain is promised for. Leave it out, or send abstain: false",
            key="threshold",
        )
    return {**answer, "labels": [] if withheld else given, "abstained": withheld}


def surety(logits: Sequence[float], settings: Settings) -> float:
    """How sure an answer is, which abstention goes by: the log-odds of its label, or of the least sure of several.

    They are those before calibration. The label is the one that is given, which biases may have changed.
    """
    if settings.options.get("multi_label", False):
        return min(map(abs, logits))
    scaled = (settings.calibration or NONE).scale(logits, settings.labels)
    given = scaled.index(max(scaled))
    others = [*logits[:given], *logits[given + 1 :]]
    if not others:
        return math.inf
    peak = max(others)
    return logits[given] - peak - math.log(math.fsum(math.exp(x - peak) for x in others))


def _withholds(
    logits: Sequence[float], settings: Settings, params: dict[str, Json], *, is_short: bool | None = None
) -> bool | None:
    """Whether this answer is withheld; None where neither the model nor the call has a rule for it.

    `is_short`: whether it lies under its label's threshold, where those are of this model.
    """
    least = least_surety(settings.calibration, params)
    if params.get("abstain") is False or (least is None and is_short is None):
        return None
    return bool(is_short) or (least is not None and surety(logits, settings) < least)


def softmax(logits: Sequence[float]) -> list[float]:
    """Softmax of the logits."""
    peak = max(logits)
    weights = [math.exp(x - peak) for x in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def sigmoid(logit: float) -> float:
    """The logistic function, without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)


def thresholds_of(settings: Settings, params: dict[str, Json]) -> dict[str, float]:
    """From which score on each label counts as given, in multi-label models: the call's, each label's own, or one."""
    calibration: Calibration = settings.calibration or NONE
    one = threshold_of(settings, params)
    own = {} if params.get("threshold") is not None else calibration.thresholds
    return {label: own.get(label, one) for label in settings.labels}


def threshold_of(settings: Settings, params: dict[str, Json]) -> float:
    """The least probability of a given label in multi-label models."""
    value = params.get("threshold", settings.options.get("threshold", THRESHOLD))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BadInput(f"threshold is {value!r}; it must be a number from 0 to 1", key="threshold", value=value)
    return float(value)


def _rank_labels(labels: Sequence[str], shares: Sequence[float]) -> list[tuple[str, float]]:
    return sorted(zip(labels, shares, strict=True), key=lambda pair: -pair[1])


def top(ranked: list[tuple[str, float]], params: dict[str, Json]) -> list[tuple[str, float]]:
    """The best labels, as many as the call asks for."""
    top_k = params.get("top_k")
    if top_k is None:
        return ranked
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise BadInput(f"top_k is {top_k!r}; it must be a number of labels, 1 or more", key="top_k", value=top_k)
    return ranked[:top_k]


def refuse_labels(ref: str, labels: Sequence[str], params: Mapping[str, Json]) -> None:
    """BadInput where a call brings labels to a model that was trained on its own."""
    for key in ("labels", "hypothesis"):
        if key in params:
            raise BadInput(
                f"{ref} was trained on labels of its own ({quote_value(list(labels))}), so a call cannot bring others. "
                f"Leave out {key}, or ask a base that embeds",
                key=key,
                model=ref,
            )


TASK = Classify()
