"""Masks: which tokens of a grid are seen, and which are to be foreseen.

How to choose: MultiBlock is I-JEPA's; SingleBlock, Random (MAE's) and Raster are what it is compared with; Tubes makes
any of them masks of films.
"""

from steersman.perception.masks.multi_block import MultiBlock
from steersman.perception.masks.random import Random
from steersman.perception.masks.raster import Raster
from steersman.perception.masks.single_block import SingleBlock
from steersman.perception.masks.tubes import Tubes

__all__ = ["MultiBlock", "Random", "Raster", "SingleBlock", "Tubes"]
