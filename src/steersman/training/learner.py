"""One optimiser step, and all the state that it changes, as named tensors that a checkpoint can keep.

Knows boxes only through core's interfaces; knows nothing of files, datasets or people who watch.

Shapes: B windows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn

from steersman.agent.building.parts import acts
from steersman.core.boxes import Objective, Perception
from steersman.core.errors import CheckpointError, ConfigError, DivergedError
from steersman.core.growing import Change, revisions
from steersman.core.learning import Carried, Encoded, LearningBatch, Loss, Need, Rollouts, Teacher
from steersman.core.ledger import Ledger
from steersman.core.levels import Level
from steersman.core.signature import Signature
from steersman.core.types import Window
from steersman.core.world_model import WorldModel
from steersman.nn import apply_changes
from steersman.nn.distributed import alone
from steersman.nn.growing import original_name
from steersman.objectives import measured_share, step_errors
from steersman.training.averages import MovingAverage
from steersman.training.building import build_learning
from steersman.training.config import RolloutStage, TrainConfig
from steersman.training.levels import DEFAULT, count_writes, learning_rate, own_levels, points_of
from steersman.training.making import Making
from steersman.training.making.maker import Carry
from steersman.training.precision import Precision, autocast, faster
from steersman.training.processes import Processes


@dataclass(frozen=True)
class Step:
    """What one step reports.

    loss, parts  means over all processes
    norm         of the gradient before clipping
    errors       (B,) prediction error of each of this process's windows, or None if nobody asked
    batch        what the objectives saw
    stop         whether any process was asked to stop
    """

    loss: float
    parts: Mapping[str, float]
    norm: float
    errors: Tensor | None
    batch: LearningBatch
    stop: bool


class Learner:
    """Perception, world model and objectives, each of their parameters in the level that owns it.

    The weights that act (`acting`) are the trained ones, or their exponential moving average if
    `config.average` > 0: θ̄ ← average·θ̄ + (1 - average)·θ after every step; buffers are copied.

    Raises:
        ConfigError: objectives whose needs the data or the parts cannot meet; levels that name no module.
    """

    def __init__(
        self, config: TrainConfig, signature: Signature, device: torch.device, processes: Processes,
        changes: Sequence[Change] = (),
    ) -> None:
        """changes: of the structure that `config` describes, declared by the checkpoint to go on from."""
        self.config, self.signature, self.device, self.processes = config, signature, device, processes
        self.changes = tuple(changes)
        self.parts = build_learning(config, signature, self.changes).to(device)
        self.parts.train()
        self.needs = self.objectives.needs
        if config.prioritise and not foresees(self.needs):
            raise ConfigError("objectives that foresee, whose errors say which episodes to prefer",
                              f"needs of {', '.join(need.name for need in self.needs) or 'nothing'}",
                              "set prioritise=False")
        self.precision: Precision = "fp32"
        processes.same([*self.parts.parameters(), *self.parts.buffers()])
        self._own()
        self._average = MovingAverage(_acting(self.parts)) if config.average else None
        self._teachers = {need.average: MovingAverage(self.parts) for need in self.needs if isinstance(need, Teacher)}
        self._carry: Carry | None = None
        self.ledger = Ledger()
        for level in self._declared():
            self.ledger.declare(level)

    def _own(self) -> None:
        """Give every parameter its level."""
        self.levels = own_levels(self.parts, self.config)
        self._learned = [p for p in self.parts.parameters() if p.requires_grad]
        if not self._learned:
            raise ConfigError("something that learns", "every parameter frozen",
                              "let a level change (`every` of 1 or more), or freeze less")
        self._forward = self.processes.averaging(_Forward(self.parts))

    def initialise(self) -> None:
        """Let the parts take weights from elsewhere, and averages of them begin there too."""
        self.perception.initialise()
        if self.world_model is not None:
            self.world_model.initialise()
        self.processes.same([*self.parts.parameters(), *self.parts.buffers()])
        if self._average is not None:
            self._average.follow(_acting(self.parts), 0.0)
        for teacher in self._teachers.values():
            teacher.follow(self.parts, 0.0)

    def grow(self, changes: Sequence[Change]) -> None:
        """Change the structure: the parts', and that of their averages. What optimisers remember of parameters that
        stay is kept.

        Raises:
            ConfigError, CheckpointError: see `nn.apply_changes`.
        """
        before = {original_name(name): x for level in self.levels for name, x in level.state().items()}
        apply_changes(self.parts, changes)
        for teacher in self._teachers.values():
            teacher.grow(changes, self.parts)
        if self._average is not None:
            self._average.grow([change for change in changes if acts(change.module)], self.parts)
        self.changes += tuple(changes)
        self._own()
        for level in self.levels:
            level.load({name: before.get(original_name(name), x) for name, x in level.state().items()})

    def structure(self) -> dict[str, Any]:
        """What a checkpoint says of it: every box with its revision, and the changes that led there."""
        said: dict[str, Any] = {"modules": revisions(self.parts, self.changes)}
        return said | ({"changes": msgspec.to_builtins(self.changes)} if self.changes else {})

    @property
    def perception(self) -> Perception:
        return cast(Perception, self.parts["perception"])

    @property
    def world_model(self) -> WorldModel | None:
        return cast(WorldModel, self.parts["world_model"]) if "world_model" in self.parts else None

    @property
    def objectives(self) -> Objective:
        return cast(Objective, self.parts["objectives"])

    # One step ------------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """The training's, of step 0, 1, …; a level may have its own."""
        return learning_rate(self.config, DEFAULT, step)

    def make(
        self, window: Window, stage: RolloutStage, needs: Sequence[Need[Any]] | None = None
    ) -> LearningBatch:
        """Window -> what objectives see: each of their needs (or of `needs`), made once. Call under `autocast`."""
        teachers = {average: teacher.modules for average, teacher in self._teachers.items()}
        carry = self._carry if self.parts.training else None
        if carry is not None:
            carry = carry.rows(self.processes.part(self.config.batch_size))
        making = Making(self.parts, self.signature, window, self.config, stage, self.processes, teachers, carry)
        for need in self.needs if needs is None else needs:
            making.of(need)
        return LearningBatch(window, making.made)

    def forward(self, window: Window, stage: RolloutStage) -> tuple[LearningBatch, Loss]:
        """Window -> what objectives saw, and their loss. Call under `autocast`."""
        batch = self.make(window, stage)
        loss: Loss = self.objectives(batch)
        if not loss.total.requires_grad:
            raise ConfigError("a loss that something which learns has a part in", "one of frozen parameters alone",
                              "let a level that the objectives depend on change (`every` of 1 or more)")
        return batch, loss

    def step(self, window: Window, step: int, stop: bool = False, errors: bool = False) -> Step:
        """Descend once. Parameters are untouched if anything is not finite.

        Raises:
            DivergedError: the loss or its gradient is NaN or infinite.
        """
        with autocast(self.device, self.precision):
            total, seen = self._forward(lambda: self.forward(window, self.config.stage(step)))
        batch, named = seen.batch, seen.parts
        torch.autograd.backward(total)
        asked = total.new_tensor(float(stop), dtype=torch.float32)
        report = torch.stack([total.detach().float(), *(x.float() for x in named.values()), asked])
        self.processes.mean(report)
        norm = torch.nn.utils.clip_grad_norm_(self._learned, self.config.clip)
        loss, *parts, stopped, size = torch.cat([report, norm.float()[None].to(report.device)]).tolist()
        if not (math.isfinite(loss) and math.isfinite(size)):
            for level in self.levels:
                level.optimiser.forget_gradients()
            raise DivergedError(
                f"a finite loss at step {step + 1}",
                f"loss {loss:g}, gradient {size:g}",
                "lower `lr` or `clip`, or check the log for extreme values; the last checkpoint stands",
            )
        self._descend(step)
        self._carry = self._carried(batch)
        found = self._errors(batch) if errors else None
        return Step(loss, dict(zip(named, parts, strict=True)), size, found, batch, stopped > 0)

    def _descend(self, step: int) -> None:
        """Every level, then what follows the parameters; the ledger counts what was written."""
        points = points_of(self.config)
        for level in self.levels:
            before = level.versions()
            level.descend(step)
            count_writes(self.ledger, level, before, points)
        if self._average is not None:
            self._average.follow(_acting(self.parts), self.config.average)
            self.ledger.count("average", points=points, writes=1)
        for i, (average, teacher) in enumerate(self._teachers.items()):
            teacher.follow(self.parts, average.at(step / max(1, self.config.steps)))
            self.ledger.count(f"teacher {i}", points=points, writes=1)

    def _declared(self) -> list[Level]:
        """Every level that training changes."""
        points = float(points_of(self.config))
        averages = ["average"] if self._average is not None else []
        averages += [f"teacher {i}" for i in range(len(self._teachers))]
        return [level.level for level in self.levels] + [
            Level(name, "moving average of parameters", "distance to the parameters", "the parameters", points)
            for name in averages
        ]

    def _errors(self, batch: LearningBatch) -> Tensor:
        """(B,): of windows in which nothing was measured, 0."""
        with torch.no_grad():
            errors, share = step_errors(batch), measured_share(batch)
            if share is None:
                return errors.mean((1, 2)).cpu()
            return ((errors * share).sum((1, 2)) / share.sum((1, 2)).clamp(min=1e-9)).cpu()

    def unseen(self, window: Window, step: int) -> dict[str, float]:
        """How these windows would be met, in evaluation mode; nothing is learned: the mean squared error of rollouts
        where the objectives need any ("prediction"), else their loss ("loss"). One process works it out, alone."""
        processes, self.processes = self.processes, Processes()
        self.parts.eval()
        try:
            with alone(), torch.no_grad(), autocast(self.device, self.precision):
                batch = self.make(window, self.config.stage(step))
                if not foresees(self.needs):
                    return {"loss": float(self.objectives(batch).total)}
                errors, share = step_errors(batch), measured_share(batch)
                error = errors.mean() if share is None else (errors * share).sum() / share.sum().clamp(min=1e-9)
                return {"prediction": float(error)}
        finally:
            self.processes = processes
            self.parts.train()

    def decide_precision(self, window: Window) -> Precision:
        """ "auto": time a forward and backward pass of a copy of the parts in both precisions."""
        if self.config.precision != "auto":
            self.precision = self.config.precision
            return self.precision
        parts, self.parts = self.parts, copy.deepcopy(self.parts)

        def trial(precision: Precision) -> None:
            with autocast(self.device, precision):
                _, loss = self.forward(window, self.config.stages[0])
            torch.autograd.backward(loss.total)

        try:
            chosen = faster(trial, self.device)
        finally:
            self.parts = parts
        self.precision = "bf16" if self.processes.lead(chosen == "bf16", self.device) else "fp32"
        return self.precision

    def acting(self) -> tuple[Perception, WorldModel | None]:
        """The modules that act, in evaluation mode; copies if weights are averaged."""
        parts = _acting(self.parts) if self._average is None else copy.deepcopy(self._average.modules)
        parts.eval()
        model = cast(WorldModel, parts["world_model"]) if "world_model" in parts else None
        return cast(Perception, parts["perception"]), model

    # Streams -------------------------------------------------------------------------------------------------------

    def _carried(self, batch: LearningBatch) -> Carry | None:
        """Where all streams stopped, those of other processes too; what the parts believed there."""
        if Carried() not in batch.made:
            return None
        window = batch.window
        here = Carry(batch.of(Carried()).belief, window.episode, window.start + window.actions.shape[1])
        return here.map(self.processes.gather)

    # State ---------------------------------------------------------------------------------------------------------

    @property
    def acted_by(self) -> nn.ModuleDict:
        """The modules whose weights act, themselves: not copies, in the mode in which they are."""
        return _acting(self.parts) if self._average is None else self._average.modules

    def model_state(self) -> dict[str, Tensor]:
        """What acts, see `agent.building.parts.acts`."""
        return _acting(self.parts).state_dict() if self._average is None else self._average.state()

    def training_state(self) -> dict[str, Tensor]:
        """What training needs beside it: objectives, optimisers, teachers, beliefs that are carried, random numbers,
        and the weights behind the average."""
        state = {f"weights.{n}": x for n, x in self.parts.state_dict().items() if self._average or not acts(n)}
        for level in self.levels:
            state |= level.state()
        for i, teacher in enumerate(self._teachers.values()):
            state |= {f"teacher.{i}.{n}": x for n, x in teacher.state().items()}
        if self._carry is not None:
            state |= self._carry.state()
        state["random.cpu"] = torch.random.get_rng_state()
        if self.device.type == "cuda":
            state["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load(self, model: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        """Continue from the state of a checkpoint, exactly.

        Raises:
            CheckpointError: the tensors are not those of this configuration.
        """
        raw = {n.removeprefix("weights."): x for n, x in training.items() if n.startswith("weights.")}
        _require_same(self.model_state(), model, "the model's tensors")
        full = {**model, **raw}
        if self._average is not None:
            self._average.load(model)
            full = raw
        _require_same(self.parts.state_dict(), full, "the weights in training")
        self.parts.load_state_dict(full)
        for level in self.levels:
            level.load(training)
        for i, teacher in enumerate(self._teachers.values()):
            theirs = {n: x for n, x in training.items() if n.startswith(f"teacher.{i}.")}
            _require_same({f"teacher.{i}.{n}": x for n, x in teacher.state().items()}, theirs, "a teacher's weights")
            teacher.load({n.removeprefix(f"teacher.{i}."): x for n, x in theirs.items()})
        self._carry = Carry.restored(training, self.device)
        torch.random.set_rng_state(training["random.cpu"].clone())
        if self.device.type == "cuda" and "random.cuda" in training:
            torch.cuda.set_rng_state(training["random.cuda"].cpu(), self.device)


class _Forward(nn.Module):
    """A forward pass as a module, so that whatever averages gradients over processes can wrap it.

    What it returns beside the loss is kept out of sight of the wrapper, which takes every tensor that it sees for one
    that gradients will come from.
    """

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, run: Callable[[], tuple[LearningBatch, Loss]]) -> tuple[Tensor, _Unseen]:
        batch, loss = run()
        return loss.total, _Unseen(batch, loss.parts)


class _Unseen:
    """What the objectives saw, and their loss's parts."""

    def __init__(self, batch: LearningBatch, parts: Mapping[str, Tensor]) -> None:
        self.batch, self.parts = batch, parts


def foresees(needs: tuple[Need[Any], ...]) -> bool:
    """Whether rollouts and their targets are made."""
    return Rollouts() in needs and Encoded() in needs


def _acting(parts: nn.ModuleDict) -> nn.ModuleDict:
    """The same modules, those that act only."""
    return nn.ModuleDict({name: module for name, module in parts.items() if acts(name)})


def _require_same(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], what: str) -> None:
    for name in sorted(mine.keys() | theirs.keys()):
        a, b = (None if x is None else (tuple(x.shape), x.dtype) for x in (mine.get(name), theirs.get(name)))
        if a != b:
            raise _foreign(what, f"{name}: {b or 'missing'} instead of {a or 'nothing'}")


def _foreign(what: str, got: str) -> CheckpointError:
    return CheckpointError(f"{what} as this configuration has them", got, "use the checkpoint's own configuration")
