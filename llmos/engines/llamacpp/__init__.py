"""The llama.cpp driver: serves a GGUF base as it is, with parallel slots. It does not import torch."""

from llmos.engines.llamacpp.engine import LlamaCppEngine

__all__ = ["LlamaCppEngine"]
