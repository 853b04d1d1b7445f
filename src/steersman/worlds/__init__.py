"""Worlds of our own, vectorised, and any Gymnasium environment as a world."""

from steersman.worlds.arm import Arm
from steersman.worlds.catalogue import OURS, make_world
from steersman.worlds.corridor import Corridor
from steersman.worlds.escapes import Escape, feasible
from steersman.worlds.grids import Grid, Maze, TabularCost, TabularMDP
from steersman.worlds.gymnasium import GymnasiumWorld, Step, make_env
from steersman.worlds.gymnasium_trials import GymnasiumTrials, Reach
from steersman.worlds.hazards import HazardsConfig, HazardState
from steersman.worlds.hazards_env import Hazards
from steersman.worlds.held import held_actions, holding
from steersman.worlds.lqr import LQR, LQRCost, Rest
from steersman.worlds.reactor import Plant
from steersman.worlds.recording import Behaviour, record, uniform
from steersman.worlds.rooms import Layout, Painter
from steersman.worlds.shifts import SHIFTS, Shift, Shifted
from steersman.worlds.trials import Labelled, Simulated, Trials, World
from steersman.worlds.two_rooms import Rooms, TwoRooms
from steersman.worlds.wander import walk, wander

__all__ = [
    "LQR", "OURS", "SHIFTS", "Arm", "Behaviour", "Corridor", "Escape", "Grid", "GymnasiumTrials", "GymnasiumWorld",
    "HazardState", "Hazards", "HazardsConfig", "LQRCost", "Labelled", "Layout", "Maze", "Painter", "Plant", "Reach",
    "Rest", "Rooms", "Shift", "Shifted", "Simulated", "Step", "TabularCost", "TabularMDP", "Trials", "TwoRooms",
    "World", "feasible", "held_actions", "holding", "make_env", "make_world", "record", "uniform", "walk", "wander",
]
