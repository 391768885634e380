"""Which of a call's inputs is wrong is said by its number, whatever is wrong with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, TooLong
from llmos.tasks import Encoded, Settings, task, with_params
from llmos.tasks.inputs import check_inputs, naming_place, render_inputs
from llmos.testing.errors import fails_with


class Letters:
    """A tokenizer of one token a letter."""

    longest = 1
    reader = None
    has_template = False

    def encode(self, texts, *, special=True):
        return [Encoded([ord(letter) for letter in text]) for text in texts]

    def encode_words(self, sentences, *, special=True):
        return [Encoded([1] * sum(map(len, words))) for words in sentences]


@given(st.lists(st.sampled_from(["", "  ", 7, None, "text"]), max_size=9))
def test_the_first_that_is_no_text_is_numbered(texts):
    bad = next((i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()), None)
    if bad is None:
        assert check_inputs(task("embed"), texts) == [{"text": text} for text in texts]
        return
    with pytest.raises(BadInput) as refused:
        check_inputs(task("embed"), texts)
    assert refused.value.detail["index"] == bad


@pytest.mark.parametrize("name", ["embed", "classify", "tag", "generate", "similarity", "rerank"])
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=9))
def test_the_first_that_is_too_long_is_numbered(name, sizes):
    wrapped = {
        "similarity": lambda text: ["a", text],
        "rerank": lambda text: {"query": "a", "documents": ["a", text]},
    }.get(name, lambda text: text)
    limit = 7 if name == "generate" else 8  # which leaves room for an answer
    inputs, settings = check_inputs(task(name), [wrapped("x" * size) for size in sizes]), Settings(max_tokens=8)
    bad = next((i for i, size in enumerate(sizes) if size > limit), None)
    if bad is None:
        assert len(render_inputs(task(name), inputs, Letters(), settings)) == len(sizes)
        return
    with pytest.raises(TooLong) as refused:
        render_inputs(task(name), inputs, Letters(), settings)
    assert refused.value.detail["index"] == bad
    assert refused.value.detail["size"] == sizes[bad]


def test_the_document_that_is_too_long_is_named_in_the_sentence():
    inputs = [{"query": "a", "documents": ["b"]}, {"query": "a", "documents": ["b", "x" * 9, "c"]}]
    with pytest.raises(TooLong, match=r"^documents\[1\] has 9 tokens; the model takes 8") as refused:
        render_inputs(task("rerank"), inputs, Letters(), Settings(max_tokens=8))
    assert refused.value.detail["index"] == 1


def test_a_label_that_is_too_long_is_no_fault_of_an_input():
    asked = {"labels": ["short", "far too long"]}
    zero_shot = _zero_shot(asked)
    with fails_with(TooLong, key="labels", size=12, limit=8) as refused:
        render_inputs(zero_shot, [{"text": "a"}], Letters(), Settings(max_tokens=8))
    assert "index" not in refused.value.detail


def _zero_shot(params):
    from llmos.tasks.zeroshot import zero_shot

    return zero_shot("base:1", params)


def test_the_message_of_a_conversation_is_named():
    with pytest.raises(BadInput) as refused:
        check_inputs(task("chat"), ["hi", {"messages": [{"role": "user", "content": "hi"}, {"role": "cook"}]}])
    assert (refused.value.detail["index"], refused.value.detail["at"]) == (1, "messages[1]")


def test_a_param_that_is_wrong_is_about_no_input():
    with pytest.raises(BadInput) as refused, naming_place(index=3):
        raise BadInput("no", key="labels")
    assert refused.value.detail == {"key": "labels"}
    assert with_params("embed", {}).spec.name == "embed"
