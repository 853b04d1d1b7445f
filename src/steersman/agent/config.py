"""Which parts an agent is made of: one frozen structure, stored with every run. Builds nothing by itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from steersman import perception, world_model  # noqa: F401  their parts are registered
from steersman.actor import ICEM
from steersman.core import CostConfig, PerceptionConfig, PlannerConfig, ReadoutConfig, WorldModelConfig
from steersman.cost import GoalCost


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The boxes of the figure, as configurations: ours, or any that is registered (`core.register`).

    perception, world_model   learned by training
    planner      Mode 2
    goal         how the distance to a goal is measured
    goal_space   "auto": an observation goal made of vectors is read as columns if the read-out knows them (robust),
                 else compared in latent space; "columns" or "latent" to insist
    costs        more terms, weighed by a task's `weights` under their names
    intrinsic    the same, sealed: frozen, hashed when the agent is built, verified ever after (`cost.Sealed`)
    readout      fitted on frozen latents after training, for the columns of the vector observations; None: no columns
    history      moments that the world model sees before it imagines
    streaming    the belief is corrected from moment to moment, and nothing cuts its history: recurrent states live as
                 long as the episode (`history` is then what training shows). False: as agents were before
    """

    perception: PerceptionConfig
    world_model: WorldModelConfig
    planner: PlannerConfig = ICEM.Config()
    goal: GoalCost.Config = GoalCost.Config()
    goal_space: Literal["auto", "columns", "latent"] = "auto"
    costs: tuple[CostConfig, ...] = ()
    intrinsic: tuple[CostConfig, ...] = ()
    readout: ReadoutConfig | None = None
    history: int = 1
    streaming: bool = False
