"""The ONNX driver: runs an exported graph with the task that its manifest declares. It does not import torch."""

from llmos.engines.onnx.engine import OnnxEngine

__all__ = ["OnnxEngine"]
