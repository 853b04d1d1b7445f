"""The figure, wired for acting: perceive, remember what came before, plan, hand the plan over.

Knows the boxes by core's abstract classes; what they are made of is in the configuration. What is done with an agent
beside acting stands above it: `in_run` (keeping and recording with its run), `sharing` (folders and hubs).

Shapes: B problems, T moments of history, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from steersman.agent.configuring import Planners, configured, require_settings
from steersman.agent.costing import remember
from steersman.agent.experience import ExperienceLog, Transition
from steersman.agent.fitted.additions import Additions
from steersman.agent.fitted.in_run import load_additions
from steersman.agent.fitted.sealing import build_sealed, distinct, verify_sealed
from steersman.agent.flight import Recorder
from steersman.agent.flight.recorder import Inputs
from steersman.agent.learning import Learning, Standing
from steersman.agent.levels import CORRECTOR, MEMORY, PLAN, begin_ledger, count_moments
from steersman.agent.memorising import memorise
from steersman.agent.moments import moment_of, require_acting, require_done, require_forecast, require_measured
from steersman.agent.nearing import Near, looked, same_goal
from steersman.agent.remembered import graph_of, ways_of
from steersman.agent.resolving import ResolvedGoals
from steersman.agent.staging import (
    everybody,
    guarded,
    joined,
    kept_of,
    near_of,
    part_of,
    place,
    require_columns,
    staged,
    warm_of,
)
from steersman.agent.state import AgentState
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
    MismatchError,
    Perception,
    Plan,
    Planner,
    PlanningError,
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
from steersman.core.planner import GraphSource
from steersman.core.way_graph import WaySource
from steersman.cost import Sealed, resolve
from steersman.cost.goals import GoalSpace
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
        whatever planner and task say (None: no limit); additions: what was fitted to these
        weights before; further: the boxes that the configuration names beside perception and world model.

        Raises:
            ConfigError: boxes that the configuration does not name, or not all that it names.
        """
        retain_freed_memory()
        self.origin, self.trusted = origin or Origin(), trusted
        self.config, self.signature = config, signature
        self.perception, self.world_model = perception.eval(), world_model.eval()
        self.further = (further or FurtherBoxes()).acting()
        require_named(config, self.further)
        self._boxes = Boxes(perception, world_model, signature, config.history, config.streaming,
                            config.react)
        self.planner = planner or config.planner.build()
        self.readout = readout
        self._sources: tuple[GraphSource, WaySource] | None = None
        self._ready(self.planner)
        self._planners = Planners(lambda: self.planner, self._ready, lambda: self.policies)
        scale = None if readout is None else readout.scale
        self.sealed = build_sealed(config, signature)
        self.costs = distinct(
            (config.goal.build(readout, scale), *(cost.build(signature) for cost in config.costs), *self.sealed)
        )
        self.additions = Additions()
        for cost in () if additions is None else additions.costs.values():
            self.add_cost(cost)
        for name, policy in {} if additions is None else additions.policies.items():
            self.add_policy(name, policy)
        if additions is not None:
            self.additions.guardrails, self.additions.outdated = dict(additions.guardrails), additions.outdated
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
        agent._sources = partial(graph_of, run, agent._boxes), partial(ways_of, run, agent._boxes, agent.readout)
        agent._ready(agent.planner)
        return agent

    def _ready(self, planner: Planner) -> None:
        """Tell a planner for whom it plans, and where its graphs come from."""
        planner.prepare(self.signature, self.readout, self.perception.latent_shape)
        if self._sources is not None:
            planner.remember(self._sources[0])
            planner.recall(self._sources[1])

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
        if require_name(name) in self.further.policies:
            raise ConfigError("a name that no policy of the configuration has", repr(name), "choose another name")
        if tuple(policy.latent_shape) != self.perception.latent_shape:
            raise MismatchError(f"a policy for states {self.perception.latent_shape}", f"{tuple(policy.latent_shape)}",
                                "use it with the agent that it was made for")
        self.additions.policies[name] = policy.eval()

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
        if self._boxes.hasty:
            return 1
        asked = configured(task, self.configurator)
        here = set() if self.state is None or self.state.stage is None else set(self.state.stage.tolist())
        every = [asked.at(i) for i in range(max(1, len(asked.stage_names))) if not here or i in here]
        return min(self._planners.of(at.settings).commits(at) for at in every)

    def configure(self, task: Task) -> None:
        """Set the boxes to a task before its first decision: what it asks for by name is looked up, its goals are
        encoded, and `rows` is what it says. `act` does so by itself.

        Raises:
            UsageError, ConfigError: a skill, a level, a planner or a learned task that there is not.
            PlanningError: goals or ends of stages that do not fit; another `react` in the middle of an episode.
        """
        with torch.inference_mode():
            self._resolve(task)

    @property
    def rows(self) -> int:
        """Rows of the log, each with an action of the world, that the first of the actions it commits to is carried
        out for: those of a model's step, or `react` of them."""
        return self._boxes.rows

    def reset(self, seeds: Sequence[int] | Tensor | int | None = None) -> None:
        """Begin new episodes. seeds: one per episode (or a first one, counted up); all randomness comes from them.

        Raises:
            SealError: an intrinsic cost has changed since the agent was built.
        """
        verify_sealed(self.sealed)
        self.state: AgentState | None = None
        self.surprise: Surprise | None = None
        self._seeds = seeds
        self._task: Task | None = None
        self._goals = ResolvedGoals(self.perception, self.signature)
        self._asked: Task | None = None

    def resume(self, state: AgentState) -> None:
        """Go on from the state of another time."""
        self.reset()
        self.state = state

    def select(self, rows: Tensor) -> None:
        """Go on with some of the episodes only: rows is a mask (B,) or indices."""
        if self.state is not None:
            self.state = self.state.rows(rows)
        elif not (self._seeds is None or isinstance(self._seeds, int)):
            self._seeds = torch.as_tensor(self._seeds)[rows]
        elif rows.dtype == torch.bool or len(rows):
            self._seeds = (torch.arange(len(rows)) if rows.dtype == torch.bool else rows.new_tensor(
                range(int(rows.max()) + 1)))[rows] + (self._seeds or 0)
        self._task = None

    def begin(self, rows: Tensor, seeds: Tensor | None = None) -> None:
        """In some of the episodes (a mask (B,) or indices) another one begins with the next observation.

        seeds: of the new ones; None: they go on drawing from the old ones' seeds, from decision 0 on.

        Raises:
            PlanningError: the agent cuts its history to several moments, which rows of different age do not share;
                seeds before the first decision; rows that are not there, or another number of seeds.
        """
        if self.state is None:
            if seeds is not None:
                raise PlanningError("episodes that were begun, to begin others beside them", "no decision yet",
                                    "give reset() the seeds of all episodes")
            return
        if self.config.history > 1 and not self.config.streaming:
            raise PlanningError("an agent that streams, or whose history is one moment", f"{self.config.history}",
                                "reset() all episodes together, or set `streaming` in the agent's configuration")
        self.state = self.state.begun(rows, seeds)

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
        asked = self._resolve(task)
        state = self._state(batch)
        through = 0 if self.log is None else self.log.count
        inputs = Inputs(moment, since, measured, state, task, asked, self.standing, through)
        belief, state, self.surprise = believe(self._boxes, state, moment, since, measured)
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
        if self.config.history > 1 or self.config.streaming:
            raise UsageError("an agent whose state is its last observation", "one that carries a history",
                             "plan instead, or act with Reactive(policy)")
        moment = self._boxes.encode(moment_of(observation, self.signature))
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
            task = None if self._asked is None else self._limited(self._asked)
            remember(self.triplets, transition, self.encode(transition.observation), self.sealed,
                     self.signature.action, task, self.standing.updates)
        rests = self._task is not None and self._task.settings.rests(CORRECTOR)
        return self.learn() if self.learning is not None and self.learning.due(self.log.count) and not rests else None

    def learn(self) -> Update | None:
        """Ask the corrector for an update from all that was experienced, make it and note it; None: it proposed none,
        and not a bit of the weights has changed.

        Raises:
            UsageError: there is no corrector (`correct_with`).
            StorageError: the update could not be noted; the weights are as before.
        """
        if self.learning is None or self.log is None:
            raise UsageError("an agent with a corrector", "one without", "begin with correct_with(agent, run, …)")
        self.log.flush()
        update = self.learning.learn(self.log.count)
        if update is not None:
            self.ledger.count(CORRECTOR, points=0, writes=1)
            self.stand(self.learning.standing())
        return update

    def roll_back(self) -> None:
        """Take the last update back, bit for bit.

        Raises:
            UsageError: there is none of this agent that can be taken back. StorageError: it could not be noted.
        """
        if self.learning is None:
            raise UsageError("an agent with a corrector", "one without", "begin with correct_with(agent, run, …)")
        self.learning.roll_back()
        self.stand(self.learning.standing())

    def stand(self, standing: Standing) -> None:
        """Other weights act from now on: what was made by the old ones of a goal is made again."""
        self.standing, self._task = standing, None

    @torch.inference_mode()
    def act_from(self, belief: Belief, task: Task, *, exogenous: Tensor | None = None) -> Plan:
        """Decide from a belief instead of an observation, as if the model were the world; never recorded."""
        require_acting(self.signature)
        exogenous = require_forecast(exogenous, self.signature, len(belief))
        return self._decide(belief, self._state(len(belief)), self._resolve(task), exogenous, None)

    def problem(self, belief: Belief, task: Task) -> Problem:
        """What a planner of this agent would get for these beliefs: for whatever judges futures and does not plan. It
        is drawn from fresh seeds, and nothing of the agent's state enters or changes.

        Raises:
            PlanningError: a goal that does not fit.
        """
        goal = resolve(task.goal, self.perception, self.signature, self.readout, self._space(task, task), task)
        asked, every = self._limited(replace(task, goal=goal)), torch.arange(len(belief))
        return Problem(self.world_model, belief, self.costs, asked, self.signature.action, every,
                       torch.zeros_like(every))

    def _state(self, batch: int) -> AgentState:
        """The state to go on from; another one where there was none, or was one of other episodes."""
        if self.state is not None and len(self.state) == batch:
            return self.state
        if self.state is None:
            return AgentState.begin(self._seeds, batch)
        if self.config.history > 1 or self.config.streaming:
            raise PlanningError(f"{len(self.state)} observations, as at the last decision", f"{batch}",
                                "reset() the agent first")
        return AgentState.begin(self._seeds, batch, int(self.state.decision.max()))

    def _decide(
        self, belief: Belief, state: AgentState, asked: Task, exogenous: Tensor | None, inputs: Inputs | None
    ) -> Plan:
        count, done = len(belief), None if inputs is None else inputs.since
        steps = 1 if done is None else done.shape[1]
        if asked.stages:
            state, groups = staged(state, asked, self.readout, belief, steps)
        else:
            state, groups = everybody(state)
        tasks, problem_task, held = guarded(asked, groups)
        first = tasks[groups[0].stage]
        if inputs is not None or PLAN not in self.ledger.entries:
            self.ledger.declare(self._planners.of(first.settings).level(first))
        if inputs is not None:
            count_moments(self.ledger, count, steps, self.surprise)
        problem = Problem(
            self.world_model, belief, self.costs, problem_task, self.signature.action,
            state.seeds, state.decision, exogenous, state.warm, passed=self._boxes.passed(state.decision),
        )
        near = state.near

        def decided(seen: Problem) -> Plan:
            nonlocal near
            if not asked.stages:
                plan, near = self._planned(seen, near)
                return plan
            plans, nears = [], []
            for group in groups:
                rails = tuple(seen.task.guardrails[i] for i in held[group.stage])
                part = part_of(replace(seen, task=replace(tasks[group.stage], guardrails=rails)), group)
                part = replace(part, warm=warm_of(state.warm, group, count))
                plan, nearer = self._planned(part, kept_of(state.near, group, count))
                plans.append((group, plan))
                nears.append((group, nearer))
            near = near_of(nears, count)
            return joined(plans, count, partial(place, asked))

        if self.recorder is None or inputs is None:
            plan = decided(problem)
        else:
            plan = self.recorder.decide(decided, problem, inputs, self.surprise, state.stage)
        self.state = replace(
            state, decision=state.decision + 1, fresh=torch.zeros_like(state.fresh), near=near, warm=plan.warm,
            done=plan.actions[:, :1], foreseen=plan.imagined.states[:, 0, 1],
            outside=self._coming(state, exogenous, plan),
        )
        if self.recorder is not None and self._task is not None:
            self.recorder.decided(self.state, self._task, self.standing)
        return plan

    def _planned(self, problem: Problem, near: Near | None) -> tuple[Plan, Near]:
        """The plan of the planner that the task asks for, and how near it comes to the goal."""
        planner = self._planners.of(problem.task.settings)
        plan, near = looked(near, _told(planner.plan(problem), problem), problem, planner,
                            self._boxes.rows / self.signature.pace.step if self._boxes.hasty else 1.0)
        self.ledger.count(PLAN, points=0, writes=len(problem) * plan.rounds)
        return plan, near

    def _coming(self, state: AgentState, exogenous: Tensor | None, plan: Plan) -> Tensor | None:
        """What the next decision has to know of the exogenous inputs of this one."""
        if exogenous is None or (self.config.history == 1 and not self.config.streaming):
            return None
        if self.config.streaming:
            return exogenous[:, : plan.actions.shape[1]]
        before = exogenous[:, :0] if state.outside is None else state.outside
        return torch.cat([before, exogenous[:, :1]], 1)[:, 1 - self.config.history :]

    def encode(self, observation: Mapping[str, Any], task: Task | None = None) -> Latent:
        """One moment, or B of them -> Latent with state (B, D) and the scene map (B, M, C), if there is one. task: what
        perception is to attend to."""
        with torch.inference_mode():
            return encode(self.perception, moment_of(observation, self.signature), task)

    def _resolve(self, task: Task) -> Task:
        """The task with what the configurator adds and with its goals as costs score them, and boxes that are set to
        it."""
        before = self._asked
        if before is not None and task is self._task:
            return self._limited(before)
        asked = configured(task, self.configurator)
        require_settings(asked, self.perception.tasks, self.memory is not None)
        require_columns(asked, self.readout)
        react = self.config.react if asked.settings.react is None else asked.settings.react
        if react != self._boxes.react and self.state is not None:
            raise PlanningError(f"react {self._boxes.react} for as long as an episode lasts", f"{react}",
                                "reset() the agent, and configure(task) before the first decision")
        if react and self.config.streaming:
            raise ConfigError("react = 0 for an agent that streams", f"{react}", "leave `react` out of the task")
        attend = asked.settings.attend
        other = before is not None and before.settings.attend != attend
        if before is not None and other and self._task is not None and self.state is not None:
            if self.config.history > 1 or self.config.streaming or self._boxes.hasty:
                raise PlanningError("one learned task for as long as an episode lasts, where an agent has a history",
                                    f"{attend!r} after {before.settings.attend!r}",
                                    "reset() the agent before it attends to another")
            self.state = replace(self.state, foreseen=None, near=None, warm=None)
        if self._task is None or other:
            self._goals.forget()
        each = (asked, *(stage.task for stage in asked.stages))
        goal, *goals = self._goals.of([(at.goal, self._space(at, asked)) for at in each], asked, self.readout)
        stages = tuple(replace(stage, task=replace(stage.task, goal=own))
                       for stage, own in zip(asked.stages, goals, strict=True))
        if self.state is not None and before is not None and not same_goal(before.goal, goal):
            self.state = replace(self.state, near=None)
        if self.state is not None and self._task is not None and self._task.stage_names != task.stage_names:
            self.state = replace(self.state, stage=None, spent=None, near=None, warm=None)
        self._boxes = replace(self._boxes, react=react, task=asked)
        self._task, self._asked = task, replace(asked, goal=goal, stages=stages)
        return self._limited(self._asked)

    def _limited(self, task: Task) -> Task:
        """The task, its horizon within what is trusted."""
        limits = [x for x in (task.trusted, self.trusted) if x is not None]
        return replace(task, trusted=min(limits, default=None))

    def _space(self, at: Task, asked: Task) -> GoalSpace:
        """Where the goal of a task, or of one of its stages, is compared."""
        planner = self._planners.of(at.settings.over(asked.settings))
        latent = self.config.goal_space == "auto" and planner.wants_latent_goal()
        return "latent" if latent else self.config.goal_space


def _told(plan: Plan, problem: Problem) -> Plan:
    """The plan, whose reasons say which intrinsic costs the task silences."""
    if not problem.silenced:
        return plan
    words = f"the task silences {', '.join(map(repr, problem.silenced))}"
    return replace(plan, reason=tuple(f"{said}; {words}" for said in plan.reason))
