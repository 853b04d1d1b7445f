"""Does a part of your own keep the promises of its box? Each check raises `PromiseError`, or says what was kept.

One file for each box. Knows the abstract classes, no part of ours.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
