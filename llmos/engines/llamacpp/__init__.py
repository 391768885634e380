"""The llama.cpp driver: a GGUF base as it is, answers written in parallel slots. It does not know torch."""

from llmos.engines.llamacpp.engine import LlamaCppEngine

__all__ = ["LlamaCppEngine"]
