"""What changes while an agent acts, beside its plan: its memory, the z that explains what was measured, its weights.

Declared and counted here, in the agent's ledger; a plan's level is declared by its planner. Knows boxes by core's
abstract classes.
"""

from __future__ import annotations

import math

from steersman.agent.building.further import FurtherBoxes
from steersman.agent.learning import Learning
from steersman.core import Level, Memory, Surprise, WorldModel
from steersman.core.ledger import Ledger

PLAN, MEMORY, Z, CORRECTOR = "plan", "memory", "z", "corrector"


def begin_ledger(further: FurtherBoxes, world_model: WorldModel, streaming: bool) -> Ledger:
    """A ledger of the levels that do not depend on a task."""
    ledger = Ledger()
    if further.memory is not None:
        ledger.declare(memory_level(further.memory))
    if world_model.latent_variable is not None and streaming:
        kind = type(world_model.latent_variable).__name__
        ledger.declare(Level(Z, "a latent variable", f"{kind}'s posterior", "the moment and the one before", 1.0))
    return ledger


def memory_level(memory: Memory) -> Level:
    return Level(MEMORY, "fast weights", f"{type(memory).__name__}'s inner objective", "the moment", 1.0)


def corrector_level(learning: Learning) -> Level:
    """Of who learns while acting; a corrector that is only asked from outside has no period of its own."""
    return Level(CORRECTOR, "parameters", f"{type(learning.corrector).__name__}'s objectives", "the experience",
                 float(learning.every) if learning.every else math.inf)


def count_moments(ledger: Ledger, batch: int, steps: int, surprise: Surprise | None) -> None:
    """B moments were observed, each after so many steps: what is written to at every moment was."""
    told = 0 if surprise is None else int(surprise.known.flatten(1).any(1).sum())
    for name in ledger.entries:
        writes = {MEMORY: batch, Z: told}.get(name, 0)
        ledger.count(name, points=batch * steps, writes=writes)
