"""Films in which nobody acts, with what is true in every frame: a box of balls that rocks, digits that wander."""

from steersman.worlds.clips.clips import Clips, Footage
from steersman.worlds.clips.digits import CountingDigits
from steersman.worlds.clips.rocking import RockingBalls
from steersman.worlds.clips.wanderers import Wanderers

__all__ = ["Clips", "CountingDigits", "Footage", "RockingBalls", "Wanderers"]
