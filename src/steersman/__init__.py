"""steersman: objective-driven AI. An agent is a nest of energy minimisers, each at its own frequency.

Nothing is imported before it is used: `import steersman` does not load torch.
"""

from steersman.core.lazy import catalogue

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
