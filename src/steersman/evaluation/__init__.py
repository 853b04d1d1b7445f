"""Measuring agents: frozen protocols, and acting in worlds beside the random policy on the same starts."""

from steersman.evaluation.acting import Acted, act_in
from steersman.evaluation.intervals import wilson, zero_of
from steersman.evaluation.protocol import (
    PROTOCOLS,
    Evaluation,
    PlanningProtocol,
    Seen,
    disk_masks,
    evaluate,
    protocol,
)

__all__ = [
    "PROTOCOLS",
    "Acted",
    "Evaluation",
    "PlanningProtocol",
    "Seen",
    "act_in",
    "disk_masks",
    "evaluate",
    "protocol",
    "wilson",
    "zero_of",
]
