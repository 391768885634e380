"""A GGUF file's copy in bf16: the same weights but for their rounding, and everything else word for word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, LlamaFileType
from gguf.quants import dequantize

from bench.gguf_copy import in_bf16
from llmos.testing.tiny_gguf import write_gguf


def test_a_copy_in_bf16_has_the_same_weights_and_says_the_same_of_itself(tmp_path: Path) -> None:
    first = GGUFReader(write_gguf(tmp_path / "a.gguf"))
    copy = GGUFReader(in_bf16(tmp_path / "a.gguf", tmp_path / "b.gguf"))
    said = {name: field.contents() for name, field in first.fields.items() if not name.startswith("GGUF.")}
    says = {name: field.contents() for name, field in copy.fields.items() if not name.startswith("GGUF.")}
    assert says == said | {"general.file_type": LlamaFileType.MOSTLY_BF16}
    assert [one.name for one in copy.tensors] == [one.name for one in first.tensors]
    for was, now in zip(first.tensors, copy.tensors, strict=True):
        is_matrix = was.data.ndim > 1
        assert now.tensor_type == (GGMLQuantizationType.BF16 if is_matrix else GGMLQuantizationType.F32)
        weights, rounded = dequantize(was.data, was.tensor_type), dequantize(now.data, now.tensor_type)
        assert np.allclose(weights, rounded, rtol=2**-8 if is_matrix else 0, atol=0)
