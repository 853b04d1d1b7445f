"""Which parts an agent is made of: one frozen structure, stored with every run. Builds nothing by itself."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from steersman import configurator, memory, perception, world_model  # noqa: F401  their parts are registered
from steersman.actor import ICEM, Gate
from steersman.core import (
    ConfigError,
    ConfiguratorConfig,
    CorrectorConfig,
    CostConfig,
    CriticConfig,
    FittedPolicyConfig,
    MemoryConfig,
    PerceptionConfig,
    PlannerConfig,
    ReadoutConfig,
    UsageError,
    WorldModelConfig,
)
from steersman.cost import GoalCost

FURTHER = ("critic", "memory", "configurator", "corrector", "policies")
"""Fields of the boxes that an agent may be without."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The boxes of the figure, as configurations: ours, or any that is registered (`core.register`).

    perception, world_model   learned by training; without a world model an agent sees and does not act
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
    react        rows of the log between two decisions, of a model whose step lasts several: 1 decides anew after each
                 row and carries out only the first row of a plan, which balances what a whole step would let fall; a
                 step must last a multiple of it, and the planner's `execute` does not count. 0: whole steps

    None, or empty, where an agent has none; their weights, if they have any, stand beside those of perception:

    critic        what a state costs from here on
    memory        written at every observed moment, under the belief's state (`AgentState.memory`)
    configurator  a task's settings of the other boxes
    corrector     who learns while the agent acts (`agent.corrector_of`)
    policies      name -> a policy with weights; what is distilled later is added, see `Agent.add_policy`
    gate          how far a decision is thought about where a task says `deliberation` (`evaluation.calibrate_gate`)
    """

    perception: PerceptionConfig
    world_model: WorldModelConfig | None = None
    planner: PlannerConfig = ICEM.Config()
    goal: GoalCost.Config = GoalCost.Config()
    goal_space: Literal["auto", "columns", "latent"] = "auto"
    costs: tuple[CostConfig, ...] = ()
    intrinsic: tuple[CostConfig, ...] = ()
    readout: ReadoutConfig | None = None
    history: int = 1
    streaming: bool = False
    react: int = 0
    critic: CriticConfig | None = None
    memory: MemoryConfig | None = None
    configurator: ConfiguratorConfig | None = None
    corrector: CorrectorConfig | None = None
    policies: dict[str, FittedPolicyConfig] = {}
    gate: Gate | None = None

    def __post_init__(self) -> None:
        for name in self.policies:
            require_name(name)
        if self.react < 0:
            raise ConfigError("react >= 0", f"{self.react}", "0 decides once a step")
        if self.react and self.streaming:
            raise ConfigError("react = 0 for an agent that streams", f"{self.react}",
                              "its belief goes on by whole steps: set `react` to 0, or leave `streaming` and set "
                              "`history`")


def require_react(react: int, step: int) -> None:
    """
    Raises:
        ConfigError: a step of so many rows does not last a multiple of `react`.
    """
    if react and step % react:
        raise ConfigError(f"react that divides the model's step of {step} rows", f"{react}",
                          "correct `react` in the agent's configuration; 1 always does, 0 decides once a step")


def require_name(name: str) -> str:
    """The name, if it is one that files and the command line can carry.

    Raises:
        ConfigError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("a name of at most 64 letters, digits, - and _", repr(name), "rename it")
    return name


def require_world_model(config: AgentConfig, where: str) -> None:
    """
    Raises:
        UsageError: an agent of this configuration sees and does not act; where: whose configuration it is, for people.
    """
    if config.world_model is None:
        raise UsageError(f"a world model in {where}, to act", "an agent that only learned to see",
                         "train one with a `world_model` in its AgentConfig; agent.load_parts gives the perception")
