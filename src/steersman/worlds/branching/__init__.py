"""Small worlds with several futures, whose probabilities are known: a fork, a gate, a junction.

How to choose: `Fork` where the odds depend on the state, as vectors or seen by a camera; `Gate` where waiting is what
chance acts on; `Traffic` where somebody else decides between three ways.
"""

from steersman.worlds.branching.branching import Branching, Futures
from steersman.worlds.branching.fork import Fork
from steersman.worlds.branching.gate import Gate
from steersman.worlds.branching.traffic import Traffic

__all__ = ["Branching", "Fork", "Futures", "Gate", "Traffic"]
