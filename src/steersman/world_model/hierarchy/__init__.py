"""Levels of abstraction: each encodes the states of the one below, steps farther, and predicts without actions."""

from steersman.world_model.hierarchy.abstraction import BELOW, Abstraction, signature_above, windows
from steersman.world_model.hierarchy.hierarchy import Hierarchy
from steersman.world_model.hierarchy.stride import foreseen_share, measured_stride

__all__ = ["BELOW", "Abstraction", "Hierarchy", "foreseen_share", "measured_stride", "signature_above", "windows"]
