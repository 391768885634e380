"""classify without training: labels that the call brings, each as near to the text as their vectors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.calibration import refuse_calibration
from llmos.tasks.classify import Classify, softmax, top
from llmos.tasks.inputs import naming_place
from llmos.tasks.similarity import cosine, vector_of
from llmos.tasks.text import encode_within, quote_value, text_of

EXAMPLE = '{"labels": ["billing", "delivery"]}'
MOST_LABELS = 1000
SHARPNESS = 20.0  # what cosines are multiplied by before they become shares: sentence encoders are trained with it
HOLE = "{}"


class ZeroShot:
    """classify as a base that embeds does it; made for one call. `parse` takes the text's vector and each label's."""

    spec = replace(Classify.spec, head="pooled")

    def __init__(self, descriptions: Mapping[str, str]) -> None:
        self._labels = tuple(descriptions)
        self._texts = list(descriptions.values())
        self._ids: list[list[int]] | None = None  # of those, once they are tokens

    def check(self, data: Json) -> Json:
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        """All inputs share the labels' tokens, so that a call computes them once."""
        if self._ids is None:
            with naming_place(key="labels"):
                self._ids = [one.ids for one in encode_within(self._texts, self._name, tokenizer, settings)]
        texts = encode_within([one["text"] for one in inputs], "The text", tokenizer, settings)
        return [Rendered([], parts=(one.ids, *self._ids)) for one in texts]

    def _name(self, number: int) -> str:
        return f"The label {self._labels[number]!r}"

    def parse(self, raw: Sequence[bytes], rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        text, *labels = map(vector_of, raw)
        shares = softmax([SHARPNESS * cosine(text, one) for one in labels])
        ranked = sorted(zip(self._labels, shares, strict=True), key=lambda pair: -pair[1])
        label, score = ranked[0]
        return {"label": label, "score": score, "scores": dict(top(ranked, params))}


def zero_shot(ref: str, params: Mapping[str, Json]) -> ZeroShot:
    """The task with the labels of a call; WrongTask if it brings none, BadInput for labels that cannot be."""
    labels = params.get("labels")
    refuse_calibration(params, f"{ref} was not trained on labels, so nothing is known of how often it is wrong")
    if labels is None:
        raise WrongTask(
            f"{ref} has no labels of its own. Send them with the call, as in params {EXAMPLE}, or train a model that "
            "has: llmos train classify",
            model=ref,
            task="classify",
        )
    return ZeroShot({label: label_sentence(text, params) for label, text in describe_labels(labels).items()})


def describe_labels(labels: Json) -> dict[str, str]:
    """Each label with what stands for it: its description, or its own words."""
    if isinstance(labels, (list, tuple)):
        for label in labels:
            if not isinstance(label, str) or not label.strip():
                raise _bad(label)
        if len(set(labels)) < len(labels):
            raise BadInput(
                f"labels is {quote_value(labels)}: some come twice. Send each once",
                key="labels",
                reason="twice",
                value=quote_value(labels),
            )
        labels = {label: _words(label) for label in labels}
    if not isinstance(labels, dict) or not 2 <= len(labels) <= MOST_LABELS:
        raise BadInput(
            f"labels is {quote_value(labels)}. Send from 2 to {MOST_LABELS:,}, as a list or each with a description: "
            '{"refund": "the customer wants money back", ...}',
            key="labels",
            limit=MOST_LABELS,
            value=quote_value(labels),
        )
    for label, text in labels.items():
        if not isinstance(label, str) or not isinstance(text, str) or not label.strip() or not text.strip():
            raise _bad({label: text})
    return labels


def label_sentence(text: str, params: Mapping[str, Json]) -> str:
    """A label's text in the sentence that the call asks for, such as `This text is about {}.`"""
    hypothesis = params.get("hypothesis", HOLE)
    if not isinstance(hypothesis, str) or hypothesis.count(HOLE) != 1:
        raise BadInput(
            f"hypothesis is {quote_value(hypothesis)}; it must be a sentence with one {HOLE} where the label goes",
            key="hypothesis",
            value=quote_value(hypothesis),
        )
    return hypothesis.replace(HOLE, text)


def _words(label: str) -> str:
    """A label as people say it: card_arrival is card arrival."""
    return " ".join(label.replace("_", " ").split()) or label


def _bad(label: Json) -> BadInput:
    return BadInput(
        f"labels has {quote_value(label)}. Labels and their descriptions are texts that are not empty",
        key="labels",
        value=quote_value(label),
    )
