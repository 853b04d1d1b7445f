"""What objectives need, made: one file for each kind of need, each made once however many objectives ask for it."""

from steersman.training.making.acted import MakeActed
from steersman.training.making.attending import MakeAttending
from steersman.training.making.carried import MakeCarried
from steersman.training.making.drawn import MakeDrawn
from steersman.training.making.encoded import MakeEncoded
from steersman.training.making.explained import MakeExplained
from steersman.training.making.maker import Given, Maker, Making, makes, require_needs
from steersman.training.making.rollouts import MakeRollouts, imagine_windows
from steersman.training.making.taught import MakeTaught
from steersman.training.making.viewed import MakeLooks, MakeViews
from steersman.training.making.visible import MakeHides, MakeVisible

__all__ = [
    "Given", "MakeActed", "MakeAttending", "MakeCarried", "MakeDrawn", "MakeEncoded", "MakeExplained", "MakeHides",
    "MakeLooks", "MakeRollouts", "MakeTaught", "MakeViews", "MakeVisible", "Maker", "Making", "imagine_windows",
    "makes", "require_needs",
]
