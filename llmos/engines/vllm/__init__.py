"""The vLLM driver: runs vLLM's server as a child of the serve process. It does not import torch."""

from llmos.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
