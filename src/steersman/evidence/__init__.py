"""The experiments behind every figure that we print: one file each, one command each.

`steersman evidence NAME` performs one. This catalogue is read without torch; an experiment is imported when asked for.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
