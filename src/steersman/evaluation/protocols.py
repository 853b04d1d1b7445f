"""The named protocols: every world of ours that has starts, goals and success, tasks in Gymnasium's own worlds, and
worlds behind a camera."""

from __future__ import annotations

from steersman.core import MismatchError, Signature, UsageError
from steersman.evaluation.protocol import PlanningProtocol
from steersman.worlds import FILMED, OURS, Arm, NineRooms, Reach, TwoRooms

PROTOCOLS: dict[str, PlanningProtocol] = {
    "two-rooms": PlanningProtocol(world=OURS["two-rooms"], stream=0),
    "held-out": PlanningProtocol(world=OURS["held-out"], stream=1),
    "three-rooms": PlanningProtocol(world=OURS["three-rooms"], episodes=100, stream=2),
    "guarded": PlanningProtocol(world=TwoRooms.Config(forbidden=5.0), stream=3, log=OURS["two-rooms"]),
    "guarded-held-out": PlanningProtocol(world=TwoRooms.Config.held_out(forbidden=5.0), stream=7,
                                         log=OURS["two-rooms"]),
    "hazards": PlanningProtocol(world=OURS["hazards"]),
    "hazards-pixels": PlanningProtocol(world=OURS["hazards-pixels"], episodes=1000, stream=8),
    "arm": PlanningProtocol(world=OURS["arm"], episodes=100, stream=9),
    "arm-picture": PlanningProtocol(world=Arm(goal="picture"), episodes=100, stream=10),
    "reactor": PlanningProtocol(world=OURS["reactor"], episodes=50),
    "corridor": PlanningProtocol(world=OURS["corridor"]),
    "fork": PlanningProtocol(world=OURS["fork"]),
    "fork-pixels": PlanningProtocol(world=OURS["fork-pixels"]),
    "gate": PlanningProtocol(world=OURS["gate"]),
    "traffic": PlanningProtocol(world=OURS["traffic"]),
    "grid": PlanningProtocol(world=OURS["grid"]),
    "lqr": PlanningProtocol(world=OURS["lqr"]),
    "nine-rooms": PlanningProtocol(world=OURS["nine-rooms"], episodes=100, stream=11),
    "nine-rooms-short": PlanningProtocol(world=NineRooms(away="short"), episodes=100, stream=12),
    "nine-rooms-middle": PlanningProtocol(world=NineRooms(away="middle"), episodes=100, stream=13),
    "nine-rooms-long": PlanningProtocol(world=NineRooms(away="long"), episodes=100, stream=14),
    "pendulum": PlanningProtocol(episodes=50, world=Reach(
        id="Pendulum-v1", goal={"cos": 1.0, "sin": 0.0, "speed": 0.0},
        reached={"cos": (0.98, 1.0), "speed": (-0.5, 0.5)})),
    "mountain-car": PlanningProtocol(episodes=50, world=Reach(
        id="MountainCarContinuous-v0", goal={"position": 0.46}, reached={"position": (0.45, 0.6)}, limit=999)),
} | {name: PlanningProtocol(world=world, episodes=20) for name, world in FILMED.items()}
"""Streams are frozen: they decide the seeds. Walls and doors of "held-out" stand where the log never shows them. Worlds
behind a camera start alike whether the goal is told by columns or by its picture."""


def protocol(name: str) -> PlanningProtocol:
    """The protocol of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"a protocol of {', '.join(PROTOCOLS)}", repr(name), "choose one of them")
    return PROTOCOLS[name]


def fitting(signature: Signature) -> str:
    """The name of the first protocol whose world shows just these observations, by name, shape and columns, and has
    actions of this kind and size: if possible by the same names and within the same bounds, or within these at least.

    Raises:
        MismatchError: there is none.
    """
    action, found = signature.action, dict[int, str]()
    for name, one in PROTOCOLS.items():
        own = one.world.signature
        if own.observations != signature.observations or own.action.kind != action.kind:
            continue
        if own.action == action:
            return name
        same = (own.action.low, own.action.high, own.action.choices) == (action.low, action.high, action.choices)
        if own.action.width == action.width:
            found.setdefault(0 if same else 1, name)
    if found:
        return found[min(found)]
    raise MismatchError(f"a run for the world of a protocol of {', '.join(PROTOCOLS)}", "one of another world",
                        "name the protocol, if its world is the same by other names")
