"""Worlds of our own, vectorised, and any Gymnasium environment as a world."""

from steersman.worlds.gymnasium import GymnasiumWorld, Step, make_env, make_world
from steersman.worlds.recording import Behaviour, record, uniform
from steersman.worlds.rooms import Layout, Painter
from steersman.worlds.two_rooms import Rooms, TwoRooms, TwoRoomsVector
from steersman.worlds.wander import walk, wander

__all__ = [
    "Behaviour", "GymnasiumWorld", "Layout", "Painter", "Rooms", "Step", "TwoRooms", "TwoRoomsVector", "make_env",
    "make_world", "record", "uniform", "walk", "wander",
]
