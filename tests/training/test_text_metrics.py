"""Written texts against true ones: ROUGE and F1 as their makers count, chrF and BLEU as sacrebleu does."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch

TRUE, GIVEN = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."


def test_rouge_is_what_google_s_implementation_gives() -> None:
    from llmos.evaluation.families import text as text_metrics

    assert text_metrics.rouge(TRUE, GIVEN, 1) == pytest.approx(0.7058823529411765)
    assert text_metrics.rouge(TRUE, GIVEN, 2) == pytest.approx(4 / 15)
    assert text_metrics.rouge_l(TRUE, GIVEN) == pytest.approx(0.5882352941176471)


@pytest.mark.parametrize(
    ("true", "given", "f1"),
    [("a b", "A, b!", 1), ("a b", "c", 0), ("a a b", "a b b", 2 / 3), ("?", "?", 1), ("a", "", 0)],
)
def test_f1_counts_words_as_often_as_both_have_them(true: str, given: str, f1: float) -> None:
    from llmos.evaluation.families import text as text_metrics

    assert text_metrics.f1(true, given) == pytest.approx(f1)


def test_each_task_has_its_own_number_first_and_likelihood_beside_it() -> None:
    import numpy as np

    from llmos.data.row import TextRow
    from llmos.evaluation.families.text import TextPrediction
    from llmos.evaluation.metrics import judge, primary_metric
    from llmos.tasks import Settings

    rows = [TextRow({"text": f"t{i}"}, TRUE, "f", i) for i in range(3)]
    unanswered = [TextPrediction(2.0, 4)] * 3
    assert primary_metric("translate", rows, unanswered, Settings()) == pytest.approx(np.exp(-0.5))
    said = [TextPrediction(2.0, 4, TRUE), TextPrediction(2.0, 4, GIVEN), TextPrediction(2.0, 4)]
    for task, first in (("summarize", "rouge_l"), ("translate", "chrf"), ("generate", "likelihood")):
        judged = judge(task, rows, said, Settings())
        assert next(iter(judged.metrics)) == first
        assert primary_metric(task, rows, said, Settings()) == judged.metrics[first]
        assert judged.metrics["perplexity"] == pytest.approx(np.exp(0.5))
        assert (judged.metrics["exact_match"], judged.metrics["answered_rows"]) == (0.5, 2)
        assert [one.given for one in judged.mistakes] == [GIVEN]
    assert judge("summarize", rows, said, Settings()).metrics["rouge_2"] == pytest.approx((1 + 4 / 15) / 2)
    whole = judge("translate", rows[:1], said[:1], Settings()).metrics
    assert (whole["chrf"], whole["bleu"]) == (pytest.approx(1), pytest.approx(1))
