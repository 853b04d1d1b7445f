"""Perception: observation -> latent; and read-outs, the other way round.

How to choose: vector for columns of numbers; scene for pictures in which something small moves through a layout;
conv for other pictures on a CPU; vit for large pictures, many frames or a GPU; mixed for several observations at once.
"""

from steersman.perception.convolutional import ConvEncoder
from steersman.perception.mixed import MixedEncoder
from steersman.perception.readout import ColumnReadout, KernelReadout, LinearReadout, MLPReadout
from steersman.perception.scene import SceneEncoder
from steersman.perception.vector import VectorEncoder
from steersman.perception.vit import ViTEncoder

__all__ = [
    "ColumnReadout",
    "ConvEncoder",
    "KernelReadout",
    "LinearReadout",
    "MLPReadout",
    "MixedEncoder",
    "SceneEncoder",
    "VectorEncoder",
    "ViTEncoder",
]
