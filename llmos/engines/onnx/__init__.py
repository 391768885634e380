"""The ONNX driver: a graph that somebody exported, with a task that its manifest declares. It does not know torch."""

from llmos.engines.onnx.engine import OnnxEngine

__all__ = ["OnnxEngine"]
