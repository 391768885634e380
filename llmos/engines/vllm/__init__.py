"""The vLLM driver: vLLM's own server as a child of this process, which writes the answers. It does not know torch."""

from llmos.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
