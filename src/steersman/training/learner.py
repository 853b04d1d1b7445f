"""One optimiser step, and all the state that it changes, as named tensors that a checkpoint can keep.

Knows boxes only through core's interfaces; knows nothing of files, datasets or people who watch.

Shapes: B windows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from steersman.agent.building.blueprint import build_like
from steersman.agent.building.parts import acts, build_parts
from steersman.core.boxes import Perception
from steersman.core.errors import CheckpointError, DivergedError
from steersman.core.signature import Signature
from steersman.core.types import LearningBatch, Loss, Window
from steersman.core.world_model import WorldModel
from steersman.nn import AdamW
from steersman.objectives import Sum, measured_share, step_errors
from steersman.runs import CheckpointFile
from steersman.runs.checkpoints import MODEL, STATE
from steersman.runs.tensors import read_header
from steersman.training.config import RolloutStage, TrainConfig
from steersman.training.precision import Precision, autocast, faster
from steersman.training.processes import Processes
from steersman.training.rollout import imagine_windows


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
    """Perception, world model and objectives under one AdamW.

    The weights that act (`acting`) are the trained ones, or their exponential moving average if
    `config.average` > 0: θ̄ ← average·θ̄ + (1 - average)·θ after every step; buffers are copied.
    """

    def __init__(self, config: TrainConfig, signature: Signature, device: torch.device, processes: Processes) -> None:
        self.config, self.device, self.processes = config, device, processes
        self.parts = build_learning(config, signature).to(device)
        self.parts.train()
        self.precision: Precision = "fp32"
        self.optimiser = AdamW(self.parts.named_parameters(), config.betas, config.weight_decay)
        processes.same([*self.parts.parameters(), *self.parts.buffers()])
        self._average = self._snapshot() if config.average else None

    @property
    def perception(self) -> Perception:
        return cast(Perception, self.parts["perception"])

    @property
    def world_model(self) -> WorldModel:
        return cast(WorldModel, self.parts["world_model"])

    # One step ------------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then the schedule; step 0, 1, …"""
        config = self.config
        if step < config.warmup:
            return config.lr * (step + 1) / config.warmup
        if config.schedule == "constant":
            return config.lr
        done = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.lr * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * done)))

    def imagine(self, window: Window, stage: RolloutStage) -> LearningBatch:
        """Window -> what objectives see. Call under `autocast`."""
        starts = torch.tensor(stage.rows(window.actions.shape[1], self.config.agent.history), device=self.device)
        return imagine_windows(
            self.perception, self.world_model, window, starts, stage.horizon, self.config.agent.history,
            self.config.start_noise if self.parts.training else 0.0,
        )

    def forward(self, window: Window, stage: RolloutStage) -> tuple[LearningBatch, Loss]:
        """Window -> what objectives saw, and their loss. Call under `autocast`."""
        batch = self.imagine(window, stage)
        loss: Loss = self.parts["objectives"](batch)
        return batch, loss

    def step(self, window: Window, step: int, stop: bool = False, errors: bool = False) -> Step:
        """Descend once. Parameters are untouched if anything is not finite.

        Raises:
            DivergedError: the loss or its gradient is NaN or infinite.
        """
        with autocast(self.device, self.precision):
            batch, loss = self.forward(window, self.config.stage(step))
        torch.autograd.backward(loss.total)
        report = torch.stack([loss.total.detach().float(), *(x.float() for x in loss.parts.values())])
        flag = report.new_tensor([float(stop)])
        grads = [p.grad for p in self.optimiser.parameters if p.grad is not None]
        self.processes.average([*grads, report, flag])
        norm = torch.nn.utils.clip_grad_norm_(self.optimiser.parameters, self.config.clip)
        total, *parts, size, asked = torch.cat([report, norm.float()[None].to(report.device), flag]).tolist()
        if not (math.isfinite(total) and math.isfinite(size)):
            self.optimiser.forget_gradients()
            raise DivergedError(
                f"a finite loss at step {step + 1}",
                f"loss {total:g}, gradient {size:g}",
                "lower `lr` or `clip`, or check the log for extreme values; the last checkpoint stands",
            )
        self.optimiser.step(self.learning_rate(step))
        self.optimiser.forget_gradients()
        self._follow()
        found = self._errors(batch) if errors else None
        return Step(total, dict(zip(loss.parts, parts, strict=True)), size, found, batch, asked > 0)

    def _errors(self, batch: LearningBatch) -> Tensor:
        """(B,): of windows in which nothing was measured, 0."""
        with torch.no_grad():
            errors, share = step_errors(batch), measured_share(batch)
            if share is None:
                return errors.mean((1, 2)).cpu()
            return ((errors * share).sum((1, 2)) / share.sum((1, 2)).clamp(min=1e-9)).cpu()

    def prediction_error(self, window: Window, step: int) -> float:
        """Mean squared error of rollouts in these windows, in evaluation mode; nothing is learned."""
        self.parts.eval()
        try:
            with torch.no_grad(), autocast(self.device, self.precision):
                batch = self.imagine(window, self.config.stage(step))
                errors, share = step_errors(batch), measured_share(batch)
                return float(errors.mean() if share is None else (errors * share).sum() / share.sum().clamp(min=1e-9))
        finally:
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

    # Averaged weights ----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._average is None:
            return
        learned = dict(self.optimiser.named)
        with torch.no_grad():
            for name, live in _acting(self.parts).items():
                if name in learned:
                    self._average[name].lerp_(live, 1 - self.config.average)
                else:
                    self._average[name].copy_(live)

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in _acting(self.parts).items()}

    def acting(self) -> tuple[Perception, WorldModel]:
        """The modules that act, in evaluation mode; copies if weights are averaged."""
        parts = self.parts
        if self._average is not None:
            parts = copy.deepcopy(parts)
            parts.load_state_dict(self._average, strict=False)
        parts.eval()
        return cast(Perception, parts["perception"]), cast(WorldModel, parts["world_model"])

    # State ---------------------------------------------------------------------------------------------------------

    def model_state(self) -> dict[str, Tensor]:
        """What acts, see `agent.building.parts.acts`."""
        return self._average if self._average is not None else _acting(self.parts)

    def training_state(self) -> dict[str, Tensor]:
        """What training needs beside it: objectives, optimiser, random numbers, and the weights behind the average."""
        state = {f"weights.{n}": x for n, x in self.parts.state_dict().items() if self._average or not acts(n)}
        state |= {f"optimiser.{n}": x for n, x in self.optimiser.state().items()}
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
        if self._average is not None:
            for name, kept in self._average.items():
                kept.copy_(model[name])
        full = raw if self._average is not None else {**model, **raw}
        _require_same(self.parts.state_dict(), full, "the weights in training")
        self.parts.load_state_dict(full)
        moments = {n.removeprefix("optimiser."): x for n, x in training.items() if n.startswith("optimiser.")}
        self.optimiser.load(moments)
        torch.random.set_rng_state(training["random.cpu"].clone())
        if self.device.type == "cuda" and "random.cuda" in training:
            torch.cuda.set_rng_state(training["random.cuda"].cpu(), self.device)


def build_learning(config: TrainConfig, signature: Signature) -> nn.ModuleDict:
    """All that training changes or keeps: {"perception": …, "world_model": …, "objectives": …}, freshly initialised."""
    parts = build_parts(config.agent, signature)
    perception = cast(Perception, parts["perception"])
    parts["objectives"] = Sum.build(config.objectives, signature, perception.latent_shape, perception.context_shape)
    return parts


def require_weights(config: TrainConfig, signature: Signature, file: CheckpointFile) -> None:
    """Refuse a configuration that a checkpoint's files do not fit, before anything of its size is allocated.

    Raises:
        CheckpointError: names the first difference, or what is missing.
    """
    if not {MODEL, STATE} <= set(file.manifest.files):
        got = ", ".join(file.manifest.files) or "no file"
        raise CheckpointError(f"{MODEL} and {STATE} in {file.path}", got, "restore the checkpoint from a copy")
    model, state = read_header(file.path / MODEL), read_header(file.path / STATE)
    raw = {name.removeprefix("weights."): x for name, x in state.items() if name.startswith("weights.")}
    header = raw if config.average else {**model, **raw}
    with torch.random.fork_rng([]):
        build_like(lambda: build_learning(config, signature), header, str(file.path), config.agent, config.objectives)


def _acting(parts: nn.Module) -> dict[str, Tensor]:
    return {name: x for name, x in parts.state_dict().items() if acts(name)}


def _require_same(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], what: str) -> None:
    for name in sorted(mine.keys() | theirs.keys()):
        a, b = (None if x is None else (tuple(x.shape), x.dtype) for x in (mine.get(name), theirs.get(name)))
        if a != b:
            raise _foreign(what, f"{name}: {b or 'missing'} instead of {a or 'nothing'}")


def _foreign(what: str, got: str) -> CheckpointError:
    return CheckpointError(f"{what} as this configuration has them", got, "use the checkpoint's own configuration")
