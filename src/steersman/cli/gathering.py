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


def gathering(
    agent: Agent, run: Run, experience: bool, learn: int, triplets: bool = False, surprised: float = 0.0, *,
    snapshots: int = SNAPSHOTS,
) -> None:
    """Have the agent record its experience and, where `learn` is above 0, learn whenever so many moments were added;
    or, where `surprised` is, only while surprise stands above the threshold of that rate of false alarms. triplets:
    remember what its moments cost as well.

    Raises:
        UsageError: a number out of range, both of them; triplets of an agent without intrinsic costs.
        LockedError: another process adds to this experience.
        RunError: what was learned before cannot be worked out again.
    """
    if learn < 0:
        raise UsageError("--learn of at least 0 moments", f"{learn}", "e.g. --learn 500")
    if not 0 <= surprised < 1 or (learn and surprised):
        raise UsageError("--surprised within [0, 1), and not beside --learn", f"{surprised:g} and {learn}",
                         "e.g. --surprised .01, alone")
    if not (experience or learn or triplets or surprised):
        return
    from steersman.agent import correct_with, record_experience, remember_triplets

    record_experience(agent, run)
    try:
        if triplets:
            remember_triplets(agent, run)
        if surprised:
            _correct_when_surprised(agent, run, surprised, snapshots)
        if learn:
            from steersman.training import GradientCorrector

            corrector = GradientCorrector.Config().build(agent.perception, agent.world_model, run.path)
            correct_with(agent, run, corrector, every=learn, snapshots=SNAPSHOTS)
    except BaseException:
        close(agent)
        raise


def _correct_when_surprised(agent: Agent, run: Run, rate: float, snapshots: int) -> None:
    """Calibrate the alarm on what was held out of the run's log, and correct while it rings."""
    from steersman import training
    from steersman.agent import correct_with
    from steersman.evaluation import calibrate_alarm

    config = training.stored_config(run)
    held_out = training.split(config, training.open_log(run))[1]
    if held_out is None:
        raise UsageError("a run that holds out a part of its log, to calibrate surprise on", "held_out = 0",
                         "train with `held_out`, e.g. --set held_out=0.1")
    alarm = calibrate_alarm(agent, held_out, level=rate)
    own = config.agent.corrector
    made = (training.LadderCorrector.Config() if own is None else own).build(
        agent.perception, agent.world_model, run.path)
    correct_with(agent, run, made, alarm=alarm, snapshots=snapshots)


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
