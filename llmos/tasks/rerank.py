"""rerank: the documents that answer a query best, in order. By vectors on a base, by reading each pair once trained."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSpec
from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.classify import sigmoid
from llmos.tasks.command_texts import CommandTexts, SourcedInput, texts_of
from llmos.tasks.pair import encoded_pairs
from llmos.tasks.similarity import cosine, vector_of
from llmos.tasks.text import encode_within, quote_value, text_of

EXAMPLE = '{"query": "How do I return a chair?", "documents": ["Returns take 14 days.", "We ship on Monday."]}'
LABELS = ("relevance",)  # of a trained model: its head gives one logit for a pair


class Rerank:
    """`parse` takes one raw answer per pair from a trained model, else the vectors of the query and each document.

    A trained model (a cross-encoder) reads query and document as one sequence; its scores are from 0 to 1, or logits
    with `raw_scores`. A base (a bi-encoder) compares vectors; its scores are cosines.
    """

    spec = TaskSpec(
        name="rerank",
        family=Family.PAIRS,
        output=Output.RANKING,
        primary_metric="ndcg_at_10",
        about="Documents in order of how well they answer a query.",
        head="sequence",
        params=frozenset({"top_n", "return_documents", "raw_scores"}),
        batch_size=32,
        is_one_sequence=True,
        texts="a query, then documents",
        example_input={
            "query": "How do I return a chair?",
            "documents": ["Returns take 14 days.", "We ship on Monday."],
        },
        example_output=[{"index": 0, "score": 0.93}, {"index": 1, "score": 0.02}],
    )

    def arrange_texts(self, texts: CommandTexts) -> list[SourcedInput]:
        """The first is the query."""
        query, *documents = (one.text for one in texts_of(texts))
        if not documents:
            raise BadInput("rerank needs a query and documents: llmos run MODEL 'query' 'document' 'document' ...")
        return [SourcedInput({"query": query, "documents": documents})]

    def check(self, data: Json) -> Json:
        if not isinstance(data, dict) or not {"query", "documents"} <= data.keys():
            raise BadInput(
                f"The input has no query and documents: {quote_value(data)}. Send {EXAMPLE}",
                expected=["query", "documents"],
            )
        documents = data["documents"]
        if not isinstance(documents, (list, tuple)) or not documents:
            raise BadInput(
                f"documents is {quote_value(documents)}. Send a list of at least one text, as in {EXAMPLE}",
                field="documents",
            )
        return {"query": text_of(data, "query"), "documents": [_document(i, one) for i, one in enumerate(documents)]}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        texts = [list(one["documents"]) for one in inputs]
        if settings.labels:
            pairs = [(one["query"], document) for one in inputs for document in one["documents"]]
            left = iter(encoded_pairs(pairs, _pair_name, tokenizer, settings))
        else:
            said = [text for one in inputs for text in (one["query"], *one["documents"])]
            left = iter(one.ids for one in encode_within(said, _text_name, tokenizer, settings))
            texts = [[one["query"], *one["documents"]] for one in inputs]
        return [
            Rendered([], one["documents"], tuple(next(left) for _ in some))
            for one, some in zip(inputs, texts, strict=True)
        ]

    def parse(self, raw: Sequence[Json], rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        is_raw = _is_true(params, "raw_scores")
        if settings.labels:
            scores = [logits[0] if is_raw else sigmoid(logits[0]) for logits in raw]
        else:
            query, *documents = map(vector_of, raw)
            scores = [cosine(query, one) for one in documents]
        ranked = sorted(enumerate(scores), key=lambda pair: -pair[1])[: _top_n(params)]
        if _is_true(params, "return_documents"):
            return [{"index": i, "score": score, "document": rendered.context[i]} for i, score in ranked]
        return [{"index": i, "score": score} for i, score in ranked]


def _document(index: int, document: Json) -> str:
    try:
        return text_of(document)
    except BadInput as error:
        raise BadInput(
            f"documents[{index}] is {quote_value(document)}. Every document is a text that is not empty",
            at=f"documents[{index}]",
            value=quote_value(document),
        ) from error


def _pair_name(number: int) -> str:
    """Of a single query's pairs; who renders several learns of the first bad one by rendering it alone."""
    return f"The query with documents[{number}]"


def _text_name(number: int) -> str:
    return "The query" if number == 0 else f"documents[{number - 1}]"


def _top_n(params: dict[str, Json]) -> int | None:
    value = params.get("top_n")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise BadInput(
            f"top_n is {quote_value(value)}; it must be a number of documents, 1 or more",
            key="top_n",
            value=quote_value(value),
        )
    return value


def _is_true(params: dict[str, Json], key: str) -> bool:
    value = params.get(key, False)
    if not isinstance(value, bool):
        raise BadInput(f"{key} is {quote_value(value)}; it must be true or false", key=key, value=quote_value(value))
    return value


TASK = Rerank()
