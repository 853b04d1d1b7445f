"""Blocks without meaning: perceptrons, attention, positions, the embedding of actions; the optimiser of all of them."""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
