"""R-Drop: what two passes disagree about is a loss; a run with it learns, and is refused where it has no meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_training

from llmos.abi.error import BadSetting
from llmos.abi.recipe import check, recipe_of
from llmos.testing.daemon import beside

pytestmark = pytest.mark.torch
PLAIN = {"task": "classify", "name": "x", "base": "tiny", "data": {"train": "f.csv"}}


def test_the_loss_is_half_of_the_papers() -> None:
    import torch
    from torch.nn.functional import cross_entropy, kl_div

    from llmos.tasks import Rendered
    from llmos.training.consistency import ConsistencyLoss, read_twice
    from llmos.training.examples import Example
    from llmos.training.losses import LabelLoss
    from llmos.training.objectives.labels import LabelTarget

    examples = read_twice([Example(Rendered([1, 2]), LabelTarget([label])) for label in (0, 2, 1)])
    assert [one.sequences for one in examples] == [([1, 2], [1, 2])] * 3
    assert [one.size for one in examples] == [4, 4, 4]
    given = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    wanted = torch.tensor([0, 2, 1])
    one, other = given[[0, 2, 4]], given[[1, 3, 5]]
    entropy = cross_entropy(one, wanted, reduction="sum") + cross_entropy(other, wanted, reduction="sum")
    p, q = one.log_softmax(1), other.log_softmax(1)
    both = kl_div(p, q, reduction="sum", log_target=True) + kl_div(q, p, reduction="sum", log_target=True)
    loss = ConsistencyLoss(LabelLoss(0.0, None), 3.0)
    assert float(loss(given, examples)) == pytest.approx(float((entropy + 3 * both / 2) / 2), rel=1e-5)
    assert loss.normalizer(examples) == 3.0
    alike = given[[0, 0, 2, 2, 4, 4]]
    assert float(loss(alike, examples)) == pytest.approx(float(cross_entropy(one, wanted, reduction="sum")), rel=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_with_it_learns(tmp_path: Path, method: str) -> None:
    from llmos.programs import train

    recipe = {
        "task": "classify",
        "data": {"train": str(tiny_training.sorting(tmp_path, 120))},
        "method": method,
        "epochs": 9.0,
        "consistency": 1.0,
    }
    daemon, channel, close = beside()
    train.main(channel, tiny_training.assignment(tmp_path, recipe))
    close()
    evidence = daemon.offers[1].draft["evidence"]
    assert evidence["metrics"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    "settings",
    [
        {"consistency": -1.0},
        {"consistency": 1.0, "options": {"multi_label": True}},
        {"consistency": 1.0, "method": "head"},
        {"consistency": 1.0, "teacher": "big"},
        {"consistency": 1.0, "contrastive": True},
        {"consistency": 1.0, "task": "tag"},
    ],
)
def test_it_is_refused_where_it_has_no_meaning(settings: dict[str, Any]) -> None:
    check(recipe_of(PLAIN | {"consistency": 2.0}))
    with pytest.raises(BadSetting) as refused:
        check(recipe_of(PLAIN | settings))
    assert refused.value.detail["key"] == "consistency"
