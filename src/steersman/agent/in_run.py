"""An agent and the run of its weights: what was added to it is stored there, and its decisions are recorded.

Knows agents from above: nothing here is needed to act.
"""

from __future__ import annotations

from steersman.agent.agent import Agent
from steersman.agent.fitted.in_run import save_additions
from steersman.agent.fitted.sealing import verify_sealed
from steersman.agent.flight import Recorder
from steersman.agent.remembered import memory_of
from steersman.core import Corrector, MismatchError
from steersman.runs import Run
from steersman.runs.decisions import RETAINED


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
                              memory=memory_of(agent.planner))
    return agent.recorder


def _require_run(agent: Agent, run: Run) -> None:
    if agent.origin.run != run.manifest.id:
        raise MismatchError(f"the run of these weights, {agent.origin.run or 'unknown'}", run.manifest.id,
                            "load the agent from this run")
