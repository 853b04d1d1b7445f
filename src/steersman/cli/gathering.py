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


def gathering(agent: Agent, run: Run, experience: bool, learn: int, triplets: bool = False) -> None:
    """Have the agent record its experience and, where `learn` is above 0, learn whenever so many moments were added;
    triplets: remember what its moments cost as well.

    Raises:
        UsageError: a number below 0; triplets of an agent without intrinsic costs.
        LockedError: another process adds to this experience.
        RunError: what was learned before cannot be worked out again.
    """
    if learn < 0:
        raise UsageError("--learn of at least 0 moments", f"{learn}", "e.g. --learn 500")
    if not (experience or learn or triplets):
        return
    from steersman.agent import correct_with, record_experience, remember_triplets

    record_experience(agent, run)
    try:
        if triplets:
            remember_triplets(agent, run)
        if learn:
            from steersman.training import GradientCorrector

            corrector = GradientCorrector.Config().build(agent.perception, agent.world_model, run.path)
            correct_with(agent, run, corrector, every=learn, snapshots=SNAPSHOTS)
    except BaseException:
        close(agent)
        raise


def close(agent: Agent) -> None:
    """Wait until everything that was gathered is on disk, and let others add."""
    for gathers in (agent.log, agent.triplets):
        if gathers is not None:
            gathers.close()


def gathered(agent: Agent, run: Path) -> str:
    """What came of it, in a line."""
    assert agent.log is not None
    learned = f", {agent.standing.updates} updates stand since the checkpoint" if agent.learning is not None else ""
    learned += "" if agent.triplets is None else f", what {agent.triplets.count:,} of them cost is remembered"
    return f"{agent.log.count:,} moments of experience{learned}: steersman inspect {run}/experience"
