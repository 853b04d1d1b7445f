"""Worlds of our own, vectorised, and any Gymnasium environment as a world."""

from steersman.worlds.arm import Arm
from steersman.worlds.branching import Branching, Fork, Futures, Gate, Traffic
from steersman.worlds.catalogue import OURS, make_world
from steersman.worlds.clips import Clips, CountingDigits, Footage, RockingBalls, Wanderers
from steersman.worlds.corridor import Corridor
from steersman.worlds.escapes import Escape, feasible
from steersman.worlds.filmed.camera import Camera, CameraEnv, square
from steersman.worlds.filmed.catalogue import FILMED
from steersman.worlds.filmed.logging import Habit, film
from steersman.worlds.filmed.minigrid import FilmedGrid
from steersman.worlds.filmed.push_t import FilmedPushT
from steersman.worlds.filmed.reach import FilmedReach
from steersman.worlds.filmed.scene import Consequence, Scene
from steersman.worlds.filmed.scenes import make_scene
from steersman.worlds.filmed.trials import Aim, FilmedTrials
from steersman.worlds.filmed.world import Filmed
from steersman.worlds.grids import Grid, Maze, TabularCost, TabularMDP
from steersman.worlds.gymnasium import GymnasiumWorld, Step, make_env
from steersman.worlds.gymnasium_trials import GymnasiumTrials, Reach
from steersman.worlds.hazards import HazardsConfig, HazardState
from steersman.worlds.hazards_env import Hazards
from steersman.worlds.lqr import LQR, LQRCost, Rest
from steersman.worlds.nine_rooms import NineRooms
from steersman.worlds.paced import PacedTrials
from steersman.worlds.patches import PatchesConfig
from steersman.worlds.playground import Played, Playground
from steersman.worlds.pucks import Pucks
from steersman.worlds.reactor import Plant
from steersman.worlds.recording import Behaviour, held, record, steps_of, uniform
from steersman.worlds.rooms import Layout, Painter
from steersman.worlds.shifts import SHIFTS, Shift, Shifted
from steersman.worlds.trials import Labelled, Simulated, Trials, World
from steersman.worlds.two_rooms import Rooms, TwoRooms
from steersman.worlds.wander import walk, wander

__all__ = [
    "FILMED", "LQR", "OURS", "SHIFTS", "Aim", "Arm", "Behaviour", "Branching", "Camera", "CameraEnv", "Clips",
    "Consequence", "Corridor", "CountingDigits", "Escape", "Filmed", "FilmedGrid", "FilmedPushT", "FilmedReach",
    "FilmedTrials", "Footage", "Fork", "Futures", "Gate", "Grid", "GymnasiumTrials", "GymnasiumWorld", "Habit",
    "HazardState", "Hazards", "HazardsConfig", "LQRCost", "Labelled", "Layout", "Maze", "NineRooms", "PacedTrials",
    "Painter", "PatchesConfig", "Plant", "Played", "Playground", "Pucks", "Reach", "Rest", "RockingBalls", "Rooms",
    "Scene", "Shift", "Shifted", "Simulated", "Step", "TabularCost", "TabularMDP", "Traffic", "Trials", "TwoRooms",
    "Wanderers", "World", "feasible",
    "film",
    "held", "make_env", "make_scene", "make_world", "record", "square", "steps_of", "uniform", "walk", "wander",
]
