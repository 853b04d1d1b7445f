"""Worlds of our own, vectorised, and any Gymnasium environment as a world."""

from steersman.worlds.corridor import Corridor
from steersman.worlds.escapes import Escape, feasible
from steersman.worlds.grids import Grid, TabularCost, TabularMDP
from steersman.worlds.gymnasium import GymnasiumWorld, Step, make_env, make_world
from steersman.worlds.hazards import HazardsConfig, HazardState
from steersman.worlds.hazards_env import Hazards
from steersman.worlds.lqr import LQR, LQRCost
from steersman.worlds.recording import Behaviour, record, uniform
from steersman.worlds.rooms import Layout, Painter
from steersman.worlds.two_rooms import Rooms, TwoRooms, TwoRoomsVector
from steersman.worlds.wander import walk, wander

__all__ = [
    "LQR", "Behaviour", "Corridor", "Escape", "Grid", "GymnasiumWorld", "HazardState", "Hazards", "HazardsConfig",
    "LQRCost", "Layout", "Painter", "Rooms", "Step", "TabularCost", "TabularMDP", "TwoRooms", "TwoRoomsVector",
    "feasible", "make_env", "make_world", "record", "uniform", "walk", "wander",
]
