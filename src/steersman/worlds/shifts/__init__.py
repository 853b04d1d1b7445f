"""Changes of how a world looks, for any world that a camera sees: is what an agent learned more than this look?"""

from steersman.worlds.shifts.brightness import Brightness
from steersman.worlds.shifts.camera import Moved, Zoom
from steersman.worlds.shifts.colours import Colours
from steersman.worlds.shifts.distractor import Distractor
from steersman.worlds.shifts.noise import Noise
from steersman.worlds.shifts.shift import Shift
from steersman.worlds.shifts.shifted import Shifted, ShiftedTrials

SHIFTS: dict[str, Shift] = {
    "colours": Colours(),
    "larger": Zoom(),
    "smaller": Zoom(factor=0.85),
    "camera": Moved(),
    "noise": Noise(),
    "brightness": Brightness(),
    "distractor": Distractor(),
}
"""Each at its usual strength, by name."""

__all__ = [
    "SHIFTS", "Brightness", "Colours", "Distractor", "Moved", "Noise", "Shift", "Shifted", "ShiftedTrials", "Zoom",
]
