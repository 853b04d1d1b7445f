"""Experience that an agent gathers while a command lets it act, and learning from it, as the command line asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.runs import Run

SNAPSHOTS = 10
"""Updates from one copy of the weights to the next."""


def gathering(agent: Agent, run: Run, experience: bool, learn: int) -> None:
    """Have the agent record its experience and, where `learn` is above 0, learn whenever so many moments were added.

    Raises:
        UsageError: a number below 0. LockedError: another process adds to this experience.
        RunError: what was learned before cannot be worked out again.
    """
    if learn < 0:
        raise UsageError("--learn of at least 0 moments", f"{learn}", "e.g. --learn 500")
    if not (experience or learn):
        return
    from steersman.agent import correct_with, record_experience

    log = record_experience(agent, run)
    if learn:
        from steersman.training import GradientCorrector

        try:
            corrector = GradientCorrector.Config().build(agent.perception, agent.world_model, run.path)
            correct_with(agent, run, corrector, every=learn, snapshots=SNAPSHOTS)
        except BaseException:
            log.close()
            raise


def gathered(agent: Agent, run: Path) -> str:
    """What came of it, in a line."""
    assert agent.log is not None
    learned = f", {agent.standing.updates} updates stand since the checkpoint" if agent.learning is not None else ""
    return f"{agent.log.count:,} moments of experience{learned}: steersman inspect {run}/experience"
