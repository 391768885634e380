"""CPU computation: kernels in C, and layers in 8-bit and 4-bit integers."""
