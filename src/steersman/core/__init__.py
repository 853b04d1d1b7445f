"""What flows between the boxes, one abstract class per box, errors, levels, randomness. No algorithm.

Imported lazily: `from steersman.core import DataError` does not load torch.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
