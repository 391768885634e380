"""The PyTorch driver: one resident base, any number of models on it, calls computed as packed rows."""

from llmos.engines.pytorch.engine import PyTorchEngine

__all__ = ["PyTorchEngine"]
