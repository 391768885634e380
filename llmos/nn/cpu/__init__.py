"""What a CPU computes: the loops in C, and layers in 8-bit and 4-bit integers."""
