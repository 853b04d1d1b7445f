"""The figure, wired for acting: perceive, remember the last moments, plan, hand the plan over.

Knows the boxes by core's abstract classes; what they are made of is in the configuration.

Shapes: B problems, T moments of history, H horizon, A action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from steersman.agent.building.fingerprint import model_fingerprint
from steersman.agent.building.origin import Origin, origin_of
from steersman.agent.building.parts import load_parts
from steersman.agent.building.readouts import load_readout
from steersman.agent.config import AgentConfig
from steersman.agent.fitted.additions import Kept, require_name
from steersman.agent.fitted.in_run import load_kept, save_kept
from steersman.agent.fitted.sealing import build_sealed, distinct, seals, verify_sealed
from steersman.agent.flight import Carried, Recorder
from steersman.agent.flight.recorder import Inputs
from steersman.agent.moments import moment_of, require_forecast
from steersman.agent.nearing import Nearing
from steersman.agent.remembered import Remembering, graph_of, memory_of
from steersman.agent.sharing import hub, pretrained
from steersman.core import (
    Belief,
    ConfigError,
    Cost,
    Goal,
    Guardrail,
    Latent,
    MismatchError,
    Observation,
    Perception,
    Plan,
    Planner,
    PlanningError,
    Problem,
    Readout,
    Signature,
    Task,
    WorldModel,
)
from steersman.core.parts import convert
from steersman.cost import Sealed, resolve
from steersman.nn import keep_freed_memory
from steersman.runs import Run
from steersman.runs.checkpoints import MODEL
from steersman.runs.decisions import KEPT
from steersman.runs.trust import trusted_horizon


class Agent:
    """Perception, world model and planner of a run, ready to act in B episodes at once.

    >>> agent = Agent.load("runs/demo")                                     # doctest: +SKIP
    >>> plan = agent.act(observation, Task(ObservationGoal(goal)))          # doctest: +SKIP
    >>> plan.action, plan.reason                                            # doctest: +SKIP

    `act` remembers: history, the planner's warm start, the number of the decision. `reset` begins new episodes.
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
        kept: Kept | None = None,
    ) -> None:
        """origin: where the weights come from, for the model card; trusted: most steps that any plan may look ahead,
        whatever planner and task say (None: no limit); kept: what was fitted to these weights before.
        """
        keep_freed_memory()
        self.origin, self.trusted = origin or Origin(), trusted
        self.config, self.signature = config, signature
        self.perception, self.world_model = perception.eval(), world_model.eval()
        self.planner, self.nearing = planner or config.planner.build(), Nearing()
        self.readout = readout
        self.planner.prepare(signature, readout, perception.latent_shape)
        scale = getattr(readout, "scale", None)
        self.sealed = build_sealed(config, signature)
        self.costs = distinct(
            (config.goal.build(readout, scale), *(cost.build(signature) for cost in config.costs), *self.sealed)
        )
        self.kept = Kept()
        for cost in () if kept is None else kept.costs.values():
            self.add_cost(cost)
        if kept is not None:
            self.kept.guardrails, self.kept.outdated = dict(kept.guardrails), kept.outdated
        self.recorder: Recorder | None = None
        self.reset()

    @classmethod
    def load(
        cls, path: Path | str | Run, checkpoint: str = "latest", planner: Planner | None = None, trusted: bool = False,
        kept: bool = True,
    ) -> Agent:
        """The agent of a run. Files are verified before they are decoded; nothing is executed.

        trusted  plan no farther than the horizon that `steersman evaluate RUN --offline` measured for these weights
        kept     with the costs and guardrails that were fitted to these weights and kept with the run (`keep_in`)

        Raises:
            UsageError: no horizon was measured for them, or none is to be trusted.
            RunError, CheckpointError: missing, damaged, foreign or of a later format.
            ConfigError: a configuration that this version does not know, or a part that nobody registered.
            SealError: an intrinsic cost is not what it was when the run was made, or when it was kept.
        """
        run = path if isinstance(path, Run) else Run.open(path)
        try:
            origins = run.manifest.config.get("parts")
            config = convert(run.manifest.config["train"]["agent"], AgentConfig, origins=origins)
            signature = msgspec.convert(run.manifest.data["signature"], Signature)
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            raise ConfigError(
                f"an agent's configuration and signature in {run.path}", f"{type(error).__name__}: {error}",
                f"use steersman {run.manifest.versions.get('steersman', 'as it was')}, which made it",
            ) from error
        file = run.checkpoint(checkpoint)
        perception, model = load_parts(config, signature, file.read(MODEL), f"{file.path / MODEL}")
        readout = load_readout(run, "observation")
        limit = trusted_horizon(run, file.step) if trusted else None
        added = load_kept(run, signature, perception, model, readout) if kept else None
        agent = cls(config, signature, perception, model, planner=planner, readout=readout,
                    origin=origin_of(run, file.step), trusted=limit, kept=added)
        verify_sealed(agent.own_sealed, run.manifest.config.get("seals", {}))
        agent.planner.remember(partial(graph_of, run, Remembering(perception, model, signature, config.history)))
        return agent

    @classmethod
    def from_pretrained(
        cls, name: Path | str, *, revision: str | None = None, token: str | None = None,
        planner: Planner | None = None, trusted: bool = False,
    ) -> Agent:
        """The agent in a folder that `save_pretrained` wrote, or of a hub's repository OWNER/NAME.

        trusted  plan no farther than the horizon that was measured before the folder was written

        Nothing is executed; a configuration whose sizes the weights do not bear out is refused before it is allocated.

        Raises:
            RunError, CheckpointError: missing, damaged, foreign or of a later format; the hub refused.
            UsageError: neither a folder nor a hub id, the extra `hub` is not installed, or no horizon travels with it.
        """
        folder = Path(name)
        if not folder.exists() and hub.is_hub_id(str(name)):
            folder = hub.download(str(name), pretrained.FILES, revision, token)
        parts = pretrained.load(folder)
        agent = cls(
            parts.config, parts.signature, parts.perception, parts.world_model, planner=planner,
            readout=parts.readout, origin=parts.origin,
            trusted=parts.origin.trusted_horizon(str(folder)) if trusted else None, kept=parts.kept,
        )
        verify_sealed(agent.own_sealed, parts.seals)
        return agent

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write config.json, model.safetensors and a filled model card; `from_pretrained` gives the same plans, bit for
        bit, with the costs and guardrails that were added. Returns the folder.

        Raises:
            ConfigError: parts that no configuration builds (your own classes, guardrails that hold code).
            StorageError: the disk refused.
        """
        parts = pretrained.Pretrained(
            self.config, self.signature, self.perception, self.world_model, self.readout, self.origin,
            seals(self.own_sealed), self.kept,
        )
        return pretrained.save(parts, self.planner, folder)

    def push_to_hub(
        self, name: str, *, private: bool = True, token: str | None = None, revision: str | None = None,
        message: str = "Upload of a steersman agent",
    ) -> str:
        """Save and send to the repository OWNER/NAME of a model hub, private unless said otherwise; its address.

        Raises:
            UsageError: no id of this form, or the extra `hub` is not installed.
            RunError: the hub refused.
        """
        with TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "model")
            return hub.upload(folder, name, private=private, token=token, message=message, revision=revision)

    def add_cost(self, cost: Cost, *, intrinsic: bool = False) -> None:
        """One more term, for instance a fitted one (`TemporalDistance`, `LearnedCost`); tasks weigh it by its name.

        intrinsic  seal it (`cost.Sealed`): from now on nothing may change it

        `keep_in` keeps it with the run, `save_pretrained` with the folder.

        Raises:
            ConfigError: there is a term of this name already, or what is to be sealed has trainable parameters.
        """
        cost = Sealed(cost) if intrinsic and not isinstance(cost, Sealed) else cost
        self.costs = distinct((*self.costs, cost))
        self.sealed += (cost,) if isinstance(cost, Sealed) else ()
        self.kept.costs[cost.name] = cost

    def add_guardrail(self, name: str, guardrail: Guardrail) -> None:
        """A guardrail that tasks can take by name, `agent.guardrails[name]`, and the command line by `--keep NAME`;
        one of that name is replaced. It is not in force by being here: limits belong to the task.

        Raises:
            ConfigError: a name that files and the command line cannot carry.
        """
        self.kept.guardrails[require_name(name)] = guardrail

    @property
    def guardrails(self) -> Mapping[str, Guardrail]:
        """Name -> guardrail that was added, or kept."""
        return MappingProxyType(self.kept.guardrails)

    @property
    def own_sealed(self) -> tuple[Sealed, ...]:
        """The intrinsic costs of the configuration."""
        return tuple(cost for cost in self.sealed if self.kept.costs.get(cost.name) is not cost)

    def keep_in(self, run: Run) -> list[str]:
        """Keep what was added with the run of these weights, so that `Agent.load(run)` finds it: configurations, and
        tensors as safetensors, hashed. A part of the same name is replaced. Returns what is kept now of this agent.

        Raises:
            MismatchError: the weights are not of this run.
            ConfigError: a part that no registered Config builds: it holds code, or is your own and not registered.
            StorageError: the disk refused.
        """
        self._require_run(run)
        verify_sealed(self.sealed)
        return save_kept(run, self.kept, self.signature, self.perception, self.world_model, self.readout)

    @property
    def execute(self) -> int:
        """How many actions of a plan are carried out before the next decision."""
        return self.planner.execute

    def commits(self, task: Task) -> int:
        """`execute` for this task. Some planners look again after one action where the task has guardrails."""
        return self.planner.commits(task)

    def reset(self, seeds: Sequence[int] | Tensor | int | None = None) -> None:
        """Begin new episodes. seeds: one per episode (or a first one, counted up); all randomness comes from them.

        Raises:
            SealError: an intrinsic cost has changed since the agent was built.
        """
        verify_sealed(self.sealed)
        self._seeds, self._decision = seeds, 0
        self._states: Tensor | None = None  # (B, T, …) the last moments, and (B, T-1, A) the actions between them
        self._actions: Tensor | None = None
        self._outside: Tensor | None = None  # (B, T-1, E) exogenous inputs of the last T-1 decisions
        self._done: Tensor | None = None  # (B, 1, A) the first action of the last plan
        self._warm: Any = None
        self._task: Task | None = None
        self._resolved: Goal | None = None

    @property
    def carried(self) -> Carried:
        """What the next decision goes on from."""
        return Carried(self._states, self._actions, self._done, self._outside, self._warm, self._decision)

    def resume(self, carried: Carried, seeds: Sequence[int] | Tensor | int | None = None) -> None:
        """Go on from what an agent carried at another time; seeds as for `reset`."""
        self.reset(seeds)
        self._states, self._actions, self._done = carried.states, carried.actions, carried.done
        self._outside, self._warm, self._decision = carried.outside, carried.warm, carried.decision

    def record(self, run: Run, *, world: str = "", kept: int = KEPT) -> Recorder:
        """From now on, write every decision into the run whose weights these are: `agent.replay`, `steersman why`.

        world  where the agent acts, for people; kept  bytes of records to keep, the oldest go first

        Raises:
            MismatchError: the weights are not of this run.
            StorageError: the disk refused.
        """
        self._require_run(run)
        self.recorder = Recorder(run, self.fingerprint(), self.origin.checkpoint, self.planner, self.readout,
                                 world=world, kept=kept, costs=self.kept.fingerprints(),
                                 memory=memory_of(self.planner))
        return self.recorder

    def _require_run(self, run: Run) -> None:
        if self.origin.run != run.manifest.id:
            raise MismatchError(f"the run of these weights, {self.origin.run or 'unknown'}", run.manifest.id,
                                "load the agent from this run")

    def fingerprint(self) -> str:
        """SHA-256 over the weights and the read-out: the same as long as nothing was learned."""
        readout = self.readout if isinstance(self.readout, nn.Module) else None
        return model_fingerprint((self.perception, self.world_model, readout))

    def select(self, rows: Tensor) -> None:
        """Go on with some of the episodes only: rows is a mask (B,) or indices."""
        take = lambda x: None if x is None else x[rows]  # noqa: E731
        self._states, self._actions, self._done = take(self._states), take(self._actions), take(self._done)
        self._outside = take(self._outside)
        if self._seeds is None or isinstance(self._seeds, int):
            count = rows.numel() if rows.dtype == torch.bool else int(rows.max()) + 1
            self._seeds = torch.arange(count) + (self._seeds or 0)
        self._seeds = torch.as_tensor(self._seeds)[rows]
        self._warm = _rows(self._warm, rows)
        self._task = None

    @torch.inference_mode()
    def act(
        self, observation: Mapping[str, Any], task: Task, *, exogenous: Tensor | None = None,
        since: Tensor | None = None,
    ) -> Plan:
        """Decide. The observation is one moment, or B of them with a leading dimension; arrays or tensors.

        exogenous  (B, H, E) known inputs to come, for at least the steps that the plan looks ahead
        since      (B, n, A) actions carried out since the last decision, if they were not that plan's first
                   (for world models with a history)

        Raises:
            MismatchError: an observation or a forecast that is not of the world that this agent was trained for.
            PlanningError: a goal or guardrail that does not fit.
        """
        moment = moment_of(observation, self.signature)
        inputs = Inputs(moment, since, self.carried, task)
        batch = len(next(iter(moment.values())))
        exogenous = require_forecast(exogenous, self.signature, batch)
        self._resolve(task)
        return self._decide(self._believe(moment, since, batch), task, exogenous, inputs)

    @torch.inference_mode()
    def act_from(self, belief: Belief, task: Task, *, exogenous: Tensor | None = None) -> Plan:
        """Decide from a belief instead of an observation, as if the model were the world; never recorded."""
        exogenous = require_forecast(exogenous, self.signature, len(belief))
        self._resolve(task)
        return self._decide(belief, task, exogenous, None)

    def _decide(self, belief: Belief, task: Task, exogenous: Tensor | None, inputs: Inputs | None) -> Plan:
        batch = len(belief)
        assert self._resolved is not None
        problem = Problem(
            self.world_model, belief, self.costs, self._limited(task, self._resolved), self.signature.action,
            self._seed(batch), torch.full((batch,), self._decision), exogenous, self._warm,
        )
        if self.recorder is None or inputs is None:
            plan = self.nearing.of(self.planner).plan(problem)
        else:
            plan = self.recorder.decide(self.nearing.of(self.planner), problem, inputs)
        self._warm, self._done = plan.warm, plan.actions[:, :1]
        if exogenous is not None and self.config.history > 1:
            before = exogenous[:, :0] if self._outside is None else self._outside
            self._outside = torch.cat([before, exogenous[:, :1]], 1)[:, 1 - self.config.history :]
        self._decision += 1
        if self.recorder is not None:
            self.recorder.decided(self.carried, task)
        return plan

    def _limited(self, task: Task, goal: Goal) -> Task:
        """The task as the planner gets it: its goal resolved, its horizon within what is trusted."""
        limits = [x for x in (task.trusted, self.trusted) if x is not None]
        return replace(task, goal=goal, trusted=min(limits, default=None))

    def encode(self, observation: Mapping[str, Any]) -> Latent:
        """One moment, or B of them -> Latent with state (B, D) and the scene map (B, M, C), if there is one."""
        moment = {k: v[:, None] for k, v in moment_of(observation, self.signature).items()}
        with torch.inference_mode():
            context = self.perception.survey(moment)
            state = self.perception.encode(moment).state[:, 0]
        return Latent(state, None if context is None else context[:, 0])

    def _resolve(self, task: Task) -> None:
        if self._task is None or task.goal is not self._task.goal:
            wanted = self.config.goal_space
            space = "latent" if wanted == "auto" and self.planner.wants_latent_goal() else wanted
            self._resolved = resolve(task.goal, self.perception, self.signature, self.readout, space)
        self._task = task

    def _believe(self, moment: Observation, since: Tensor | None, batch: int) -> Any:
        latent = self.perception.encode({k: v[:, None] for k, v in moment.items()})
        context = self.perception.survey({k: v[:, None] for k, v in moment.items()})
        states, actions = latent.state, None
        if self._states is not None and self.config.history > 1:
            if len(self._states) != batch:
                raise PlanningError(
                    f"{len(self._states)} observations, as at the last decision", f"{batch}", "reset() the agent first")
            done = since if since is not None else self._done
            assert done is not None
            if done.shape[1] != 1:
                raise PlanningError(
                    "one action between two decisions of a world model with a history", f"{done.shape[1]}",
                    "carry out one action of each plan (the planner's `execute`)")
            kept = self._actions if self._actions is not None else done[:, :0]
            actions = torch.cat([kept, done], 1)[:, -(self.config.history - 1):]
            states = torch.cat([self._states, states], 1)[:, -self.config.history:]
        elif self._states is not None and len(self._states) != batch:
            self._warm = None
        self._states, self._actions = states, actions
        if actions is None:
            width = self.signature.action.size
            kind = torch.int64 if self.signature.action.kind == "discrete" else torch.float32
            actions = torch.zeros(batch, 0, width, dtype=kind)
        outside = self._outside
        if outside is None and self.signature.exogenous:
            outside = torch.zeros(batch, 0, len(self.signature.exogenous))
        return self.world_model.begin(Latent(states, context), actions, outside)

    def _seed(self, batch: int) -> Tensor:
        seeds = self._seeds
        if seeds is None or isinstance(seeds, int):
            return torch.arange(batch) + (seeds or 0)
        result = torch.as_tensor(seeds, dtype=torch.int64)
        if len(result) != batch:
            raise PlanningError(f"{batch} seeds, one for each episode", f"{len(result)}", "reset() with one seed each")
        return result


def _rows(warm: Any, rows: Tensor) -> Any:
    """The rows of a planner's warm start: a tensor, or a dataclass of tensors, each with a leading B."""
    if isinstance(warm, Tensor):
        return warm[rows]
    if dataclasses.is_dataclass(warm) and not isinstance(warm, type):
        return replace(warm, **{f.name: _rows(getattr(warm, f.name), rows) for f in dataclasses.fields(warm)})
    return warm
