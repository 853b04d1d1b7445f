"""An agent and the run of its weights: what was added to it is stored there, its decisions and its experience are
recorded, and it learns from that.

Knows agents from above: nothing here is needed to act.
"""

from __future__ import annotations

import math

from steersman.agent.agent import Agent
from steersman.agent.alarm import Alarm
from steersman.agent.experience import ExperienceLog
from steersman.agent.fitted.in_run import save_additions
from steersman.agent.fitted.sealing import verify_sealed
from steersman.agent.flight import Recorder
from steersman.agent.learning import Learning
from steersman.agent.levels import corrector_level
from steersman.agent.rederiving import Rederiver
from steersman.agent.remembered import memory_of
from steersman.core import Corrector, MismatchError, UsageError
from steersman.memory import TripletMemory
from steersman.runs import Run
from steersman.runs.decisions import RETAINED
from steersman.runs.experiencing import RETAINED as EXPERIENCE_RETAINED
from steersman.runs.triplets import FOLDER as TRIPLETS
from steersman.runs.triplets import RETAINED as TRIPLETS_RETAINED


def store_additions(agent: Agent, run: Run) -> list[str]:
    """Store what was added to an agent in the run of its weights, so that `Agent.load(run)` finds it: configurations,
    and tensors as safetensors, hashed. A part of the same name is replaced. Returns what is stored now of this agent.

    Raises:
        MismatchError: the weights are not of this run.
        ConfigError: a part that no registered Config builds: it holds code, or is your own and not registered.
        StorageError: the disk refused.
    """
    _require_run(agent, run)
    verify_sealed(agent.sealed)
    return save_additions(run, agent.additions, agent.signature, agent.perception, agent.world_model, agent.readout)


def corrector_of(agent: Agent, run: Run) -> Corrector | None:
    """Who learns while this agent acts, as its configuration names it: it changes the agent's own perception and world
    model. None: nobody.

    Raises:
        MismatchError: the weights are not of this run.
    """
    _require_run(agent, run)
    config = agent.config.corrector
    return None if config is None else config.build(agent.perception, agent.world_model, run.path)


def record_decisions(agent: Agent, run: Run, *, world: str = "", retain: int = RETAINED) -> Recorder:
    """From now on, write every decision into the run whose weights these are: `agent.replay`, `steersman why`.

    world  where the agent acts, for people; retain  bytes of records that stay, the oldest go first

    Raises:
        MismatchError: the weights are not of this run.
        StorageError: the disk refused.
    """
    _require_run(agent, run)
    agent.recorder = Recorder(run, agent.fingerprint(), agent.origin.checkpoint, agent.planner, agent.readout,
                              world=world, retain=retain, costs=agent.additions.fingerprints(),
                              memory=memory_of(agent.planner), standing=agent.standing, ledger=agent.ledger)
    return agent.recorder


def record_experience(
    agent: Agent, run: Run, *, retain: int = EXPERIENCE_RETAINED, age: float = float("inf")
) -> ExperienceLog:
    """From now on, `agent.experience` adds to the experience of the run whose weights these are: RUN/experience, which
    is a log that can be trained on.

    retain  bytes that stay; age  seconds that moments stay. The oldest go first

    Raises:
        MismatchError: the weights are not of this run. LockedError: another process adds to its experience.
        StorageError: the disk refused.
    """
    _require_run(agent, run)
    agent.log = ExperienceLog(run, agent.signature, retain=retain, age=age)
    return agent.log


def remember_triplets(
    agent: Agent, run: Run, *, retain: int = TRIPLETS_RETAINED, age: float = float("inf")
) -> TripletMemory:
    """From now on, `agent.experience` adds each moment's state and intrinsic costs to RUN/triplets, going on with what
    is there: a critic learns from them (`agent.triplets.triplets()`), and they are searched by state
    (`agent.triplets.nearest`).

    retain  bytes that stay; age  seconds that triplets stay. The oldest go first

    Raises:
        UsageError: no experience is recorded (`record_experience`); an agent without intrinsic costs.
        MismatchError: the weights are not of this run, or the triplets there are of another checkpoint or other costs.
        LockedError: another process adds to them. StorageError: the disk refused.
    """
    _require_run(agent, run)
    if agent.log is None:
        raise UsageError("an agent whose experience is recorded", "one whose is not",
                         "begin with record_experience(agent, run)")
    if not agent.sealed:
        raise UsageError("an agent with an intrinsic cost, to remember what its moments cost", "one without",
                         "name some in its configuration (`intrinsic`), or add_cost(cost, intrinsic=True)")
    agent.triplets = TripletMemory(
        run.path / TRIPLETS, math.prod(agent.perception.latent_shape), tuple(cost.name for cost in agent.sealed),
        run=run.manifest.id, weights=f"checkpoint {agent.origin.checkpoint}", retain=retain, age=age)
    return agent.triplets


def correct_with(
    agent: Agent, run: Run, corrector: Corrector | None = None, *, every: int = 0, snapshots: int = 0,
    anew: bool = False, alarm: Alarm | None = None,
) -> Learning:
    """From now on, `agent.learn()` makes the updates that this corrector proposes from the experience of the run, after
    those that were made since the checkpoint and stand: these are worked out again first.

    corrector  None: the one that the agent's configuration names
    every      learn by itself whenever so many moments were added; 0: only when it is told to
    snapshots  keep the weights after every so many updates: decisions of later ones can be replayed although the
               experience before has gone
    anew       begin from the checkpoint, whatever was learned since
    alarm      learn by itself, and only while surprise stands above this threshold (`evaluation.calibrate_alarm`)

    Raises:
        UsageError: no experience is recorded (`record_experience`); there is no corrector.
        RunError: what stands cannot be worked out again: the experience has made room. `anew` begins without it.
    """
    _require_run(agent, run)
    if agent.log is None:
        raise UsageError("an agent whose experience is recorded", "one whose is not",
                         "begin with record_experience(agent, run)")
    corrector = corrector or corrector_of(agent, run)
    if corrector is None:
        raise UsageError("a corrector", "none, and none in the agent's configuration",
                         "give one: training.GradientCorrector.Config().build(perception, world_model, run.path)")
    if anew and agent.standing.learned:
        raise UsageError("an agent as its checkpoint has it, to begin anew", f"{agent.standing.updates} updates",
                         "load it again")
    if not anew and not agent.standing.learned:
        Rederiver(run, agent).to_latest()
    corrector.stand_at(agent.standing.updates)
    agent.learning = Learning(
        corrector, (agent.perception, agent.world_model), agent.log.folder, agent.origin.checkpoint, agent.log.count,
        every=every, snapshots=snapshots, alarm=alarm)
    agent.ledger.declare(corrector_level(agent.learning))
    return agent.learning


def _require_run(agent: Agent, run: Run) -> None:
    if agent.origin.run != run.manifest.id:
        raise MismatchError(f"the run of these weights, {agent.origin.run or 'unknown'}", run.manifest.id,
                            "load the agent from this run")
