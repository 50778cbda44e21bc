"""Fused passes for processors: compiled once with the machine's own compiler, kept, and loaded as a plain C library."""

from fathom.model.kernels.build import available, library

__all__ = ["available", "library"]
