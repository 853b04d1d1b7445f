"""Perception: observation -> latent; and read-outs, the other way round.

How to choose: vector for columns of numbers; scene for pictures in which something small moves through a layout;
patches for pictures made of tiles, as of grids and board games; conv for other pictures on a CPU; vit for large
pictures, many frames or a GPU; field, waveform and token for what their names say; mixed for several observations at
once; keypoints for a few things in a picture, or in a window that moves over it; published for weights that others
trained; backbone for any other network as it is, of timm or your own. `for_signature` takes the plain one for whatever
a log has.
"""

from steersman.perception import masks, views
from steersman.perception.backbone import FrozenBackbone
from steersman.perception.backbone_source import register_backbone
from steersman.perception.choice import CameraChoice, PlainChoice, for_signature
from steersman.perception.convolutional import ConvEncoder
from steersman.perception.field import FieldEncoder
from steersman.perception.gaussian_process import GaussianProcessReadout
from steersman.perception.keypoint_readout import KeypointReadout
from steersman.perception.keypoints import KeypointEncoder
from steersman.perception.mixed import MixedEncoder
from steersman.perception.patches import PatchEncoder
from steersman.perception.published import PublishedEncoder
from steersman.perception.read_columns import ReadEncoder
from steersman.perception.readout import ColumnReadout, KernelReadout, LinearReadout, MLPReadout
from steersman.perception.scene import SceneEncoder
from steersman.perception.token import TokenEncoder
from steersman.perception.vector import VectorEncoder
from steersman.perception.vit import ViTEncoder
from steersman.perception.waveform import WaveformEncoder

__all__ = [
    "CameraChoice",
    "ColumnReadout",
    "ConvEncoder",
    "FieldEncoder",
    "FrozenBackbone",
    "GaussianProcessReadout",
    "KernelReadout",
    "KeypointEncoder",
    "KeypointReadout",
    "LinearReadout",
    "MLPReadout",
    "MixedEncoder",
    "PatchEncoder",
    "PlainChoice",
    "PublishedEncoder",
    "ReadEncoder",
    "SceneEncoder",
    "TokenEncoder",
    "VectorEncoder",
    "ViTEncoder",
    "WaveformEncoder",
    "for_signature",
    "masks",
    "register_backbone",
    "views",
]
