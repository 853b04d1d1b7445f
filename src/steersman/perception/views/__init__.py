"""Views: other ways of seeing the same moment, as batched operations that are told their randomness.

How to choose: for pictures ResizedCrop, Translate, Zoom, Flip, Rotation, Colour, Blur, Patch; for fields SpaceCrop and
Roll; for waveforms Gain and TimeShift; for vectors ColumnDropout; for tokens TokenDropout; Noise for all numbers,
TimeCrop for all clips; Chain puts them one after the other. AnotherLook is a chain for whatever a camera shows.
"""

from steersman.perception.views.another_look import AnotherLook
from steersman.perception.views.blur import Blur
from steersman.perception.views.chain import Chain
from steersman.perception.views.colour import Colour
from steersman.perception.views.column_dropout import ColumnDropout
from steersman.perception.views.flip import Flip
from steersman.perception.views.gain import Gain
from steersman.perception.views.noise import Noise
from steersman.perception.views.patch import Patch
from steersman.perception.views.resized_crop import ResizedCrop
from steersman.perception.views.roll import Roll
from steersman.perception.views.rotation import Rotation
from steersman.perception.views.space_crop import SpaceCrop
from steersman.perception.views.time_crop import TimeCrop
from steersman.perception.views.time_shift import TimeShift
from steersman.perception.views.token_dropout import TokenDropout
from steersman.perception.views.translate import Translate
from steersman.perception.views.zoom import Zoom

__all__ = [
    "AnotherLook",
    "Blur",
    "Chain",
    "Colour",
    "ColumnDropout",
    "Flip",
    "Gain",
    "Noise",
    "Patch",
    "ResizedCrop",
    "Roll",
    "Rotation",
    "SpaceCrop",
    "TimeCrop",
    "TimeShift",
    "TokenDropout",
    "Translate",
    "Zoom",
]
