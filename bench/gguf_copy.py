"""A GGUF file's copy with its matrices in bf16: what it says of itself and its tokens stay as they are."""

from __future__ import annotations

from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, Keys, LlamaFileType
from gguf.quants import dequantize, quantize

BY_THE_WRITER = ("GGUF.", Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE, Keys.General.QUANTIZATION_VERSION)


def in_bf16(source: Path, to: Path) -> Path:
    """Vectors (norms, biases) stay in float32, as llama.cpp's own converter leaves them."""
    read = GGUFReader(source)
    written = GGUFWriter(to, read.fields[Keys.General.ARCHITECTURE].contents())
    written.add_file_type(LlamaFileType.MOSTLY_BF16)
    for name, field in read.fields.items():
        if not name.startswith(BY_THE_WRITER):
            kind = field.types[0]
            of = field.types[-1] if kind == GGUFValueType.ARRAY else None
            written.add_key_value(name, field.contents(), kind, sub_type=of)
    for tensor in read.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        kind = GGMLQuantizationType.BF16 if weights.ndim > 1 else GGMLQuantizationType.F32
        written.add_tensor(tensor.name, quantize(weights, kind), raw_dtype=kind)
    written.write_header_to_file()
    written.write_kv_data_to_file()
    written.write_tensors_to_file()
    written.close()
    return to
