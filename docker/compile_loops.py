"""Compiles kernels.c for every x86 processor with a path of its own, so that an image needs no compiler."""

import platform

from llmos.abi.cpu import PATHS
from llmos.nn.cpu.cpu_kernels import kernels, load_library

if platform.machine() == "x86_64":
    for path in PATHS:
        load_library(path)
else:
    kernels()
