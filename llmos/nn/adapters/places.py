"""Where in a transformer the parts are that methods change, by the names that architectures use."""

from __future__ import annotations

import re

from torch import nn

from llmos.abi.error import BadInput

ATTENTION = re.compile(
    r"(attention\.output\.dense|attention\.(out_lin|dense)|self_attn\.(o_proj|out_proj)|encoder_attn\.out_proj"
    r"|attn\.(Wo|o|c_proj|out_proj)|(SelfAttention|EncDecAttention)\.o)$"
)
FEED_FORWARD = re.compile(
    r"(\d+\.output\.dense|ffn\.lin2|mlp\.(down_proj|Wo|c_proj|fc2|dense_4h_to_h)|\d+\.fc2|DenseReluDense\.wo)$"
)
KEYS_VALUES = re.compile(
    r"(self\.(key|value)|(attn|attention)\.([kv]|[kv]_proj|[kv]_lin|Wqkv|c_attn|query_key_value)"
    r"|Attention\.[kv])$"
)


def paths_of(backbone: nn.Module, *places: re.Pattern[str]) -> list[str]:
    """The paths of layers with weights at these places; BadInput if one of the places is not known in the base."""
    found: list[str] = []
    for place in places:
        some = [path for path, layer in backbone.named_modules() if place.search(path) and hasattr(layer, "weight")]
        if not some:
            raise BadInput(
                f"The layers that this method changes are not known in a {type(backbone).__name__}. Take another "
                "method, such as lora",
                architecture=type(backbone).__name__,
                reason="unknown_places",
            )
        found += some
    return found


def norms_of(backbone: nn.Module) -> list[str]:
    """The paths of all norms with weights."""
    return [
        path
        for path, layer in backbone.named_modules()
        if "norm" in type(layer).__name__.lower() and getattr(layer, "weight", None) is not None
    ]
