"""The figure, wired for acting: perceive, remember what came before, plan, hand the plan over.

Knows the boxes by core's abstract classes; what they are made of is in the configuration. What is done with an agent
beside acting stands above it: `in_run` (keeping and recording with its run), `sharing` (folders and hubs).

Shapes: B problems, T moments of history, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from steersman.agent.believing import Boxes, believe, encode
from steersman.agent.building.fingerprint import model_fingerprint
from steersman.agent.building.further import FurtherBoxes, require_named
from steersman.agent.building.loading import load_parts
from steersman.agent.building.origin import Origin, origin_of
from steersman.agent.building.readouts import load_readout
from steersman.agent.config import AgentConfig, require_name, require_world_model
from steersman.agent.configuring import Planners
from steersman.agent.costing import remember
from steersman.agent.decision import Decision
from steersman.agent.experience import ExperienceLog, Transition
from steersman.agent.fitted.additions import Additions
from steersman.agent.fitted.gates import load_gate
from steersman.agent.fitted.in_run import load_additions
from steersman.agent.fitted.sealing import build_sealed, distinct, verify_sealed
from steersman.agent.flight import Recorder
from steersman.agent.flight.recorder import Inputs
from steersman.agent.learning import Learning, Standing
from steersman.agent.levels import CORRECTOR, MEMORY, begin_ledger
from steersman.agent.memorising import memorise
from steersman.agent.moments import moment_of, require_acting, require_done, require_forecast, require_measured
from steersman.agent.remembered import graph_of, ways_of
from steersman.agent.setting import Setting
from steersman.agent.state import AgentState, begun_in, going_on, selected
from steersman.core import (
    Belief,
    ConfigError,
    Configurator,
    Cost,
    Critic,
    FittedPolicy,
    Guardrail,
    Latent,
    Memory,
    Perception,
    Plan,
    Planner,
    Problem,
    Readout,
    Signature,
    Surprise,
    Task,
    TensorRecord,
    Update,
    UsageError,
    WorldModel,
)
from steersman.cost import Sealed
from steersman.memory import TripletMemory
from steersman.nn import retain_freed_memory
from steersman.runs import Run
from steersman.runs.trust import trusted_horizon


class Agent:
    """Perception, world model, planner and further boxes of a run, ready to act in B episodes at once.

    >>> agent = Agent.load("runs/demo")                                     # doctest: +SKIP
    >>> plan = agent.act(observation, Task(ObservationGoal(goal)))          # doctest: +SKIP
    >>> plan.action, plan.reason                                            # doctest: +SKIP

    `act` goes on from `state`: what was seen, the planner's warm start, the number of the decision. `reset` begins new
    episodes, `begin` some of them.
    """

    def __init__(
        self,
        config: AgentConfig,
        signature: Signature,
        perception: Perception,
        world_model: WorldModel,
        *,
        planner: Planner | None = None,
        readout: Readout | None = None,
        origin: Origin | None = None,
        trusted: int | None = None,
        additions: Additions | None = None,
        further: FurtherBoxes | None = None,
    ) -> None:
        """origin: where the weights come from, for the model card; trusted: most steps that any plan may look ahead,
        whatever planner and task say (None: no limit); additions: what was fitted to these weights before; further:
        the boxes that the configuration names beside perception and world model.

        Raises:
            ConfigError: boxes that the configuration does not name, or not all that it names.
        """
        retain_freed_memory()
        self.origin, self.trusted = origin or Origin(), trusted
        self.config, self.signature = config, signature
        self.perception, self.world_model = perception.eval(), world_model.eval()
        self.further = (further or FurtherBoxes()).acting()
        require_named(config, self.further)
        self.planner, self.readout, self.gate = planner or config.planner.build(), readout, config.gate
        latent = perception.latent_shape
        self.setting = Setting(
            config, Boxes(perception, world_model, signature, config.history, config.streaming, config.react),
            Planners(lambda: self.planner, lambda: self.policies, lambda: self.gate, signature, readout, latent),
            lambda: self.further, readout=readout, trusted=trusted)
        scale = None if readout is None else readout.scale
        self.sealed = build_sealed(config, signature)
        self.costs = distinct((config.goal.build(readout, scale), *(cost.build(signature) for cost in config.costs),
                               *self.sealed))
        kept = additions or Additions()
        self.additions = Additions(guardrails=dict(kept.guardrails), outdated=kept.outdated)
        for cost in kept.costs.values():
            self.add_cost(cost)
        for name, policy in kept.policies.items():
            self.add_policy(name, policy)
        self.state: AgentState | None = None
        self.recorder: Recorder | None = None
        self.log: ExperienceLog | None = None
        self.triplets: TripletMemory | None = None
        self.learning: Learning | None = None
        self.standing = Standing()
        self.ledger = begin_ledger(self.further, world_model, config.streaming)
        self.reset()

    @classmethod
    def load(
        cls, path: Path | str | Run, checkpoint: str = "latest", planner: Planner | None = None, trusted: bool = False,
        additions: bool = True,
    ) -> Agent:
        """The agent of a run. Files are verified before they are decoded; nothing is executed.

        trusted    plan no farther than the horizon that `steersman evaluate RUN --offline` measured for these weights
        additions  with the costs and guardrails that were fitted to these weights (`store_additions`)

        Raises:
            UsageError: no horizon was measured for them, or none is to be trusted; a run that only learned to see.
            RunError, CheckpointError: missing, damaged, foreign or of a later format.
            ConfigError: a configuration that this version does not know, or a part that nobody registered.
            SealError: an intrinsic cost is not what it was when the run was made, or when it was stored.
        """
        run = path if isinstance(path, Run) else Run.open(path)
        loaded = load_parts(run, checkpoint)
        perception, model = loaded.parts.perception, loaded.parts.world_model
        require_world_model(loaded.config, f"{run.path}")
        assert model is not None
        readout = load_readout(run, "observation")
        limit = trusted_horizon(run, loaded.step) if trusted else None
        added = load_additions(run, loaded.signature, perception, model, readout) if additions else None
        agent = cls(loaded.config, loaded.signature, perception, model, planner=planner, readout=readout,
                    origin=origin_of(run, loaded.step), trusted=limit, additions=added, further=loaded.parts.further)
        verify_sealed(agent.own_sealed, run.manifest.config.get("seals", {}))
        boxes, planners = agent.setting.boxes, agent.setting.planners
        planners.recall(partial(graph_of, run, boxes), partial(ways_of, run, boxes, readout))
        agent.gate = load_gate(run) or agent.gate
        return agent

    def add_cost(self, cost: Cost, *, intrinsic: bool = False) -> None:
        """One more term, for instance a fitted one (`TemporalDistance`, `LearnedCost`); tasks weigh it by its name.

        intrinsic  seal it (`cost.Sealed`): from now on nothing may change it

        `store_additions` stores it with the run, `save_pretrained` with the folder.

        Raises:
            ConfigError: there is a term of this name already, or what is to be sealed has trainable parameters.
        """
        cost = Sealed(cost) if intrinsic and not isinstance(cost, Sealed) else cost
        self.costs = distinct((*self.costs, cost))
        self.sealed += (cost,) if isinstance(cost, Sealed) else ()
        self.additions.costs[cost.name] = cost

    def add_guardrail(self, name: str, guardrail: Guardrail) -> None:
        """A guardrail that tasks can take by name, `agent.guardrails[name]`, and the command line by `--keep NAME`;
        one of that name is replaced. It is not in force by being here: limits belong to the task.

        Raises:
            ConfigError: a name that files and the command line cannot carry.
        """
        self.additions.guardrails[require_name(name)] = guardrail

    @property
    def guardrails(self) -> Mapping[str, Guardrail]:
        """Name -> guardrail that was added, or stored."""
        return MappingProxyType(self.additions.guardrails)

    def add_policy(self, name: str, policy: FittedPolicy) -> None:
        """A policy beside those of the configuration, for instance a distilled one: `agent.policies[name]`; one that
        was added under that name before is replaced.

        Raises:
            ConfigError: a name that files and the command line cannot carry, or that a policy of the configuration has.
            MismatchError: a policy for other states.
        """
        self.additions.add_policy(require_name(name), policy, self.further.policies, self.perception.latent_shape)

    @property
    def policies(self) -> Mapping[str, FittedPolicy]:
        """Name -> policy with weights, of the configuration or added."""
        return MappingProxyType({**self.further.policies, **self.additions.policies})

    @property
    def critic(self) -> Critic | None:
        """What a state costs from here on: the box of the configuration, or the term that was fitted and is weighed as
        "critic" (`cost.IntrinsicCritic`)."""
        fitted = self.additions.costs.get("critic")
        return fitted if self.further.critic is None and isinstance(fitted, Critic) else self.further.critic

    @property
    def memory(self) -> Memory | None:
        """What is written at every observed moment; what it holds is in `state.memory`."""
        return self.further.memory

    @property
    def configurator(self) -> Configurator | None:
        """A task's settings of the other boxes."""
        return self.further.configurator

    def empty_memory(self, batch: int) -> TensorRecord | None:
        """What the memory of `batch` episodes holds before the first moment; None without a memory."""
        return None if self.memory is None else self.memory.initial(batch)

    @property
    def own_sealed(self) -> tuple[Sealed, ...]:
        """The intrinsic costs of the configuration."""
        return tuple(cost for cost in self.sealed if self.additions.costs.get(cost.name) is not cost)

    @property
    def execute(self) -> int:
        """How many actions of a plan are carried out before the next decision."""
        return self.planner.execute

    def commits(self, task: Task) -> int:
        """`execute` for this task. Some planners look again after one action where the task has guardrails, and an
        agent that decides several times a step carries out the first of the first one's `rows`. Of several stages the
        one counts that looks again first."""
        return self.setting.commits(task, self.state)

    def configure(self, task: Task) -> None:
        """Set the boxes to a task before its first decision: what it asks for by name is looked up, its goals are
        encoded, and `rows` is what it says. `act` does so by itself.

        Raises:
            UsageError, ConfigError: a skill, a level, a planner or a learned task that there is not.
            PlanningError: goals or ends of stages that do not fit; another `react` in the middle of an episode.
        """
        with torch.inference_mode():
            _, self.state = self.setting.to(task, self.state)

    @property
    def rows(self) -> int:
        """Rows of the log, each with an action of the world, that the first of the actions it commits to is carried
        out for: those of a model's step, or `react` of them."""
        return self.setting.boxes.rows

    def reset(self, seeds: Sequence[int] | Tensor | int | None = None) -> None:
        """Begin new episodes. seeds: one per episode (or a first one, counted up); all randomness comes from them.

        Raises:
            SealError: an intrinsic cost has changed since the agent was built.
        """
        verify_sealed(self.sealed)
        self.state = None
        self.surprise: Surprise | None = None
        self._seeds = seeds
        self.setting.forget()

    def resume(self, state: AgentState) -> None:
        """Go on from the state of another time."""
        self.reset()
        self.state = state

    def select(self, rows: Tensor) -> None:
        """Go on with some of the episodes only: rows is a mask (B,) or indices."""
        self.state, self._seeds = selected(self.state, self._seeds, rows)
        self.setting.task = None

    def begin(self, rows: Tensor, seeds: Tensor | None = None) -> None:
        """In some of the episodes (a mask (B,) or indices) another one begins with the next observation.

        seeds: of the new ones; None: they go on drawing from the old ones' seeds, from decision 0 on.

        Raises:
            PlanningError: see `state.begun_in`.
        """
        self.state = begun_in(self.state, rows, seeds, self.config.history > 1 and not self.config.streaming)

    def fingerprint(self) -> str:
        """SHA-256 over all weights that the configuration names, and the read-out: the same as long as nothing was
        learned."""
        readout = self.readout if isinstance(self.readout, nn.Module) else None
        return model_fingerprint((self.perception, self.world_model, readout), self.further.named())

    @torch.inference_mode()
    def act(
        self, observation: Mapping[str, Any], task: Task, *, exogenous: Tensor | None = None,
        since: Tensor | None = None, measured: Mapping[str, Tensor] | None = None,
    ) -> Plan:
        """Decide. The observation is one moment, or B of them with a leading dimension; arrays or tensors.

        exogenous  (B, H, E) known inputs to come, for at least the steps that the plan looks ahead
        since      (B, n, A) actions carried out since the last decision, if they were not that plan's first
                   (for world models with a history)
        measured   name -> (B,) bool: which observations were measured at this moment; the others only repeat an older
                   value, and what was foreseen stands for them (for agents that stream)

        `surprise` says afterwards how far the moment lies from what was foreseen.

        Raises:
            MismatchError: an observation, a forecast or actions that are not of the world of this agent's log.
            PlanningError: a goal or guardrail that does not fit; nobody acted in that log.
        """
        require_acting(self.signature)
        moment = moment_of(observation, self.signature)
        batch = len(next(iter(moment.values())))
        exogenous = require_forecast(exogenous, self.signature, batch)
        since = require_done(since, self.signature, batch)
        measured = require_measured(measured, self.signature, batch)
        asked, self.state = self.setting.to(task, self.state)
        state = going_on(self.state, self._seeds, batch, self.setting.boxes.carries)
        through = 0 if self.log is None else self.log.count
        inputs = Inputs(moment, since, measured, state, task, asked, self.standing, through)
        belief, state, self.surprise = believe(self.setting.boxes, state, moment, since, measured)
        if self.learning is not None:
            self.learning.saw(self.surprise)
        if not asked.settings.rests(MEMORY):
            state = memorise(self.memory, state, belief)
        return self._decide(belief, state, asked, exogenous, inputs)

    @torch.inference_mode()
    def propose(self, observation: Mapping[str, Any], task: Task, policy: str) -> Tensor:
        """Mode 1: what a policy of this agent does, (B, A), from an observation as `act` takes it. Encoded and
        answered: nothing is imagined, so no guardrail is looked at, and nothing is remembered.

        Raises:
            ConfigError: no such policy. UsageError: an agent whose state is more than its last observation.
        """
        if policy not in self.policies:
            raise ConfigError(f"a policy of {', '.join(self.policies) or 'none'}", repr(policy),
                              "distil one, or correct the name")
        if self.setting.boxes.carries:
            raise UsageError("an agent whose state is its last observation", "one that carries a history",
                             "plan instead, or act with Reactive(policy)")
        moment = self.setting.boxes.encode(moment_of(observation, self.signature))
        return self.policies[policy].propose(Belief(moment.state, moment.context), task)[:, 0]

    def experience(self, transition: Transition, *, durable: bool = False) -> Update | None:
        """Add what was observed after an action to the experience of the run (`record_experience` begins that), and
        what it costs to the memory of triplets (`remember_triplets`).

        durable  wait until it is on disk: it then survives a loss of power, too

        -> the update that was made, where the agent learns by itself (`correct_with`) and it was time.

        Raises:
            UsageError: no experience is recorded.
            DataError, ActionError, MismatchError: a moment that is not of this world, or goes on with an episode that
                has not begun; nothing is added.
            StorageError: the disk refused; what was added before stands.
        """
        if self.log is None:
            raise UsageError("an agent whose experience is recorded", "one whose is not",
                             "begin with record_experience(agent, run)")
        self.log.append(transition, durable=durable)
        if self.triplets is not None:
            task = None if self.setting.asked is None else self.setting.limited(self.setting.asked)
            remember(self.triplets, transition, self.encode(transition.observation), self.sealed,
                     self.signature.action, task, self.standing.updates)
        rests = self.setting.task is not None and self.setting.task.settings.rests(CORRECTOR)
        return self.learn() if self.learning is not None and self.learning.due(self.log.count) and not rests else None

    def learn(self) -> Update | None:
        """Ask the corrector for an update from all that was experienced, make it and note it; None: it proposed none,
        and not a bit of the weights has changed.

        Raises:
            UsageError: there is no corrector (`correct_with`).
            StorageError: the update could not be noted; the weights are as before.
        """
        learning = _corrected(None if self.log is None else self.learning)
        assert self.log is not None
        self.log.flush()
        update = learning.learn(self.log.count)
        if update is not None:
            self.ledger.count(CORRECTOR, points=0, writes=1)
            self.stand(learning.standing())
        return update

    def roll_back(self) -> None:
        """Take the last update back, bit for bit.

        Raises:
            UsageError: there is none of this agent that can be taken back. StorageError: it could not be noted.
        """
        learning = _corrected(self.learning)
        learning.roll_back()
        self.stand(learning.standing())

    def stand(self, standing: Standing) -> None:
        """Other weights act from now on: what was made by the old ones of a goal is made again."""
        self.standing, self.setting.task = standing, None

    @torch.inference_mode()
    def act_from(self, belief: Belief, task: Task, *, exogenous: Tensor | None = None) -> Plan:
        """Decide from a belief instead of an observation, as if the model were the world; never recorded."""
        require_acting(self.signature)
        exogenous = require_forecast(exogenous, self.signature, len(belief))
        asked, self.state = self.setting.to(task, self.state)
        state = going_on(self.state, self._seeds, len(belief), self.setting.boxes.carries)
        return self._decide(belief, state, asked, exogenous)

    def problem(self, belief: Belief, task: Task) -> Problem:
        """What a planner of this agent would get for these beliefs: for whatever judges futures and does not plan. It
        is drawn from fresh seeds, and nothing of the agent's state enters or changes.

        Raises:
            PlanningError: a goal that does not fit.
        """
        asked, seeds = self.setting.resolved(task), torch.arange(len(belief))
        return Problem(self.world_model, belief, self.costs, asked, self.signature.action, seeds, 0 * seeds)

    def _decide(
        self, belief: Belief, state: AgentState, asked: Task, exogenous: Tensor | None, inputs: Inputs | None = None
    ) -> Plan:
        decision = Decision(
            boxes=self.setting.boxes, costs=self.costs, planners=self.setting.planners, ledger=self.ledger,
            readout=self.readout, recorder=self.recorder, surprise=None if inputs is None else self.surprise)
        plan, self.state = decision.make(belief, state, asked, exogenous, inputs)
        return plan

    def encode(self, observation: Mapping[str, Any], task: Task | None = None) -> Latent:
        """One moment, or B of them -> Latent with state (B, D) and the scene map (B, M, C), if there is one. task: what
        perception is to attend to."""
        with torch.inference_mode():
            return encode(self.perception, moment_of(observation, self.signature), task)


def _corrected(learning: Learning | None) -> Learning:
    if learning is None:
        raise UsageError("an agent with a corrector", "one without", "begin with correct_with(agent, run, …)")
    return learning
