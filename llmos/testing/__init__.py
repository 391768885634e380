"""Shipped fakes: a clock, the null engine's world, a kernel that keeps everything in memory."""
