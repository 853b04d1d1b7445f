"""Worlds of our own, vectorised, and any Gymnasium environment as a world."""

from steersman.worlds.catalogue import OURS, make_world
from steersman.worlds.corridor import Corridor
from steersman.worlds.escapes import Escape, feasible
from steersman.worlds.grids import Grid, Maze, TabularCost, TabularMDP
from steersman.worlds.gymnasium import GymnasiumWorld, Step, make_env
from steersman.worlds.gymnasium_trials import GymnasiumTrials, Reach
from steersman.worlds.hazards import HazardsConfig, HazardState
from steersman.worlds.hazards_env import Hazards
from steersman.worlds.lqr import LQR, LQRCost, Rest
from steersman.worlds.paced import PacedTrials
from steersman.worlds.reactor import Plant
from steersman.worlds.recording import Behaviour, record, uniform
from steersman.worlds.rooms import Layout, Painter
from steersman.worlds.trials import Labelled, Simulated, Trials, World
from steersman.worlds.two_rooms import Rooms, TwoRooms
from steersman.worlds.wander import walk, wander

__all__ = [
    "LQR", "OURS", "Behaviour", "Corridor", "Escape", "Grid", "GymnasiumTrials", "GymnasiumWorld", "HazardState",
    "Hazards", "HazardsConfig", "LQRCost", "Labelled", "Layout", "Maze", "PacedTrials", "Painter", "Plant", "Reach",
    "Rest", "Rooms", "Simulated", "Step", "TabularCost", "TabularMDP", "Trials", "TwoRooms", "World", "feasible",
    "make_env", "make_world", "record", "uniform", "walk", "wander",
]
