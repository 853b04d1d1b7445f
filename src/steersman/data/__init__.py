"""Episodes on disk: readers and writers of formats, the memory-mapped training cache, windows, splits, statistics.

Imported lazily: reading and converting logs loads no torch.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
