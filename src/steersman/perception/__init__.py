"""Perception: observation -> latent; and read-outs, the other way round.

How to choose: vector for columns of numbers, scene for pictures in which something small moves through a layout.
"""

from steersman.perception.readout import AnyReadout, ColumnReadout, LinearReadout, MLPReadout
from steersman.perception.scene import SceneEncoder
from steersman.perception.vector import VectorEncoder

AnyPerception = SceneEncoder.Config | VectorEncoder.Config

__all__ = [
    "AnyPerception",
    "AnyReadout",
    "ColumnReadout",
    "LinearReadout",
    "MLPReadout",
    "SceneEncoder",
    "VectorEncoder",
]
