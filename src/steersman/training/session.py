"""One sitting of a training: the state between steps, what follows a step, when to save. Driven by `loop`.

Knows boxes through core's interfaces, the dataset through `WindowSource`; draws nothing on a screen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steersman.agent.fitted.sealing import build_sealed, verify_sealed
from steersman.core.boxes import Perception
from steersman.core.errors import CheckpointError, DivergedError
from steersman.core.growing import Change
from steersman.core.learning import Encoded
from steersman.core.types import Window
from steersman.core.world_model import WorldModel
from steersman.runs import Run
from steersman.training.advice import Advice, advise
from steersman.training.checkpoints import Checkpoint, CheckpointStore
from steersman.training.config import TrainConfig
from steersman.training.feed import Feed
from steersman.training.gauges import (
    Gauge,
    Moment,
    RidgeProbe,
    effective_rank,
    has_states,
    persistence,
    spread,
    within_share,
)
from steersman.training.learner import Learner, Step, foresees
from steersman.training.once import encoded_once
from steersman.training.parts import split
from steersman.training.processes import Processes
from steersman.training.settling import BATCHES, has_statistics, settle
from steersman.training.source import Sampler, Streams, WindowSource
from steersman.training.window_weights import window_weights

_CALIBRATION, _SETTLING = -1, -2  # steps that are none: what is drawn for them no step of training sees
_CALIBRATION_ROWS = 4096
_CALIBRATION_BYTES = 64 << 20
_SAVING_SHARE = 50  # a checkpoint by the clock waits 50 times what the last one took: saving costs at most 2%


@dataclass(frozen=True)
class Progress:
    """What whoever watches gets after every step.

    step, steps  done, of how many
    loss, parts  of this step
    gauges       as last measured
    data_wait    share of the time since the start spent waiting for windows, 0..1
    eta_seconds  until the last step, at the pace of the last steps
    advice       what to change, where the gauges show a collapse
    """

    step: int
    steps: int
    loss: float
    parts: Mapping[str, float]
    gauges: Mapping[str, float]
    data_wait: float
    eta_seconds: float
    advice: Advice | None = None


@dataclass(frozen=True)
class Trained:
    """What training leaves in memory; everything is in the run, too.

    run          its path, or None in a process that does not write
    step         optimiser steps done
    finished     False: stopped on request, `resume` goes on
    loss         of the last step
    seconds      spent training, over all sittings
    data_wait    share of this sitting spent waiting for windows
    perception, world_model   as they act, in evaluation mode; no world model where only perception was learned
    """

    run: Path | None
    step: int
    finished: bool
    loss: float
    seconds: float
    data_wait: float
    perception: Perception
    world_model: WorldModel | None


class Session:
    """One sitting of a training."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: WindowSource,
        run: Run | None,
        device: torch.device,
        processes: Processes,
        gauges: Sequence[Gauge],
        changes: Sequence[Change] = (),
    ) -> None:
        self.config, self.device, self.processes = config, device, processes
        self.run = run if processes.leads else None
        self.source, self.held_out = split(config, dataset)
        self.part = processes.part(config.batch_size)
        weights = None if config.prefer is None else window_weights(self.source, config.window, config.prefer)
        self.sampler = Sampler(
            self.source.lengths, config.window, config.batch_size, config.seed, config.prioritise, weights)
        streams = config.feed == "streams"
        order = Streams(self.source.lengths, config.window, config.batch_size, config.seed) if streams else self.sampler
        self._draw: Callable[[int], tuple[Tensor, Tensor]] = order.draw
        self.feed = Feed(threaded=config.prefetch)
        self.sealed = build_sealed(config.agent, self.source.signature)
        if self.sealed and run is not None:
            verify_sealed(self.sealed, run.manifest.config.get("seals", {}))
        self.learner = Learner(config, self.source.signature, device, processes, changes)
        self.store = CheckpointStore(run.checkpoints_dir, run.manifest.id, config.keep) if run is not None else None
        probe = RidgeProbe.of(self.source.signature) if config.probe else None
        self.gauges: list[Gauge] = [*self._own_gauges(probe), *gauges]
        self.measured: dict[str, float] = {}
        self.done, self.saved, self.loss, self.earlier = 0, -1, float("nan"), 0.0
        self.started = self.saved_at = time.perf_counter()
        self.save_cost = 0.0
        self.pace: float | None = None

    def _own_gauges(self, probe: Gauge | None) -> list[Gauge]:
        """The built-in gauges for which the objectives have anything made."""
        needs = self.learner.needs
        found: list[Gauge] = [spread, effective_rank] if has_states(needs) else []
        found += [persistence] if foresees(needs) else []
        found += [within_share] if Encoded() in needs and self.config.window else []
        return found + ([probe] if probe is not None and Encoded() in needs else [])

    def begin(self, checkpoint: str | None) -> None:
        """Fresh, or as the checkpoint says; then have the first windows gathered."""
        if checkpoint is None:
            self.learner.initialise()
            self._encode_once()
            self._calibrate()
            self.pending = self._draw(0)
            self._decide_precision()
            self.save()
        else:
            assert self.store is not None
            self._restore(self.store.load(checkpoint))
            self._encode_once()
        self.started = self.saved_at = time.perf_counter()
        self._order()

    def _encode_once(self) -> None:
        """Have what never changes of encoding done for the whole log, if there is any."""
        perception = self.learner.perception
        self.source = encoded_once(self.source, perception, self.device)
        self.held_out = None if self.held_out is None else encoded_once(self.held_out, perception, self.device)

    def _calibrate(self) -> None:
        """Let perception fit its normalisation to a sample of the log."""
        rows = _CALIBRATION_ROWS
        evenly = Sampler(self.source.lengths, self.config.window, 1, self.config.seed, False)
        window = self.source.windows(*evenly.draw(_CALIBRATION, 1), self.config.window)
        size = sum(x[0, 0].nbytes for x in window.observations.values())
        count = max(1, min(rows, _CALIBRATION_BYTES // size) // (self.config.window + 1))
        window = self.source.windows(*evenly.draw(_CALIBRATION, count), self.config.window)
        with torch.no_grad():
            flat = {name: x.flatten(0, 1).to(self.device) for name, x in window.observations.items()}
            self.learner.perception.calibrate(flat)

    def _decide_precision(self) -> None:
        self.learner.decide_precision(self._gather(self.pending).to(self.device))

    def _gather(self, indices: tuple[Tensor, Tensor]) -> Window:
        episode, start = indices
        window: Window = self.source.windows(episode[self.part], start[self.part], self.config.window)
        return window

    def _order(self) -> None:
        if self.done < self.config.steps:
            indices = self.pending
            self.feed.submit(lambda: self._gather(indices))

    # Steps ---------------------------------------------------------------------------------------------------------

    def advance(self, stop: bool, progress: Callable[[Progress], None] | None) -> bool:
        """One step and what follows from it; True: some process was asked to stop."""
        if stop and self.processes.size == 1:
            return True
        began = time.perf_counter()
        window = self.feed.take().to(self.device)
        here = self.pending
        self.pending = self._draw(self.done + 1)  # before this step's errors: the same with and without a thread
        self.done += 1
        self._order()
        try:
            step = self.learner.step(window, self.done - 1, stop, errors=self.config.prioritise)
        except DivergedError:
            if self.run is not None:
                self.run.metrics.append(self.done, diverged=True)
            raise
        if self.done == self.config.steps:
            self._settle()
        verify_sealed(self.sealed)
        if step.errors is not None:
            self.sampler.report(here[0], self.processes.gather(step.errors))
        self.loss = step.loss
        self._record(step)
        self._save_if_due()
        spent = time.perf_counter() - began
        self.pace = spent if self.pace is None else 0.95 * self.pace + 0.05 * spent
        if progress is not None and self.processes.leads:
            progress(self._progress(step))
        return step.stop

    def _settle(self) -> None:
        """After the last step, have batch statistics estimated on the final weights, if there are any."""
        if has_statistics(self.learner):
            drawn = (self.sampler.draw(_SETTLING - i) for i in range(BATCHES))
            settle(self.learner, (self._gather(indices).to(self.device) for indices in drawn), self.done - 1)

    def _record(self, step: Step) -> None:
        if not self.processes.leads:
            return
        extra: dict[str, Any] = {}
        every = self.config.gauge_every
        if every and (self.done % every == 0 or self.done == self.config.steps):
            self.measured = self._measure(step)
            extra = {name if "/" in name else f"gauge/{name}": value for name, value in self.measured.items()}
            extra |= {"speed/data_wait": round(self.data_wait, 4), "seconds": round(self.seconds, 3)}
            if self.pace:
                extra["speed/windows_per_second"] = round(self.config.batch_size / self.pace, 2)
        if self.run is not None:
            values = {"loss": step.loss, **{f"part/{name}": value for name, value in step.parts.items()}}
            rates = {"rate/gradient": step.norm, "rate/learning_rate": self.learner.learning_rate(self.done - 1)}
            self.run.metrics.append(self.done, values | rates | extra)

    def _measure(self, step: Step) -> dict[str, float]:
        with torch.no_grad(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            moment = Moment(self.done, step.batch)
            measured = {name: value for gauge in self.gauges for name, value in gauge(moment).items()}
            return measured | self._held_out_error()

    def _held_out_error(self) -> dict[str, float]:
        """Prediction error, or loss, on windows that are never trained on, a new draw each time."""
        if self.held_out is None:
            return {}
        config = self.config
        unseen = Sampler(self.held_out.lengths, config.window, min(config.batch_size, 64), config.seed, False)
        window = self.held_out.windows(*unseen.draw(self.done), config.window).to(self.device)
        return {f"held_out/{name}": x for name, x in self.learner.unseen(window, self.done - 1).items()}

    @property
    def seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.started

    @property
    def data_wait(self) -> float:
        return self.feed.waited / max(time.perf_counter() - self.started, 1e-9)

    def _progress(self, step: Step) -> Progress:
        eta = (self.pace or 0.0) * (self.config.steps - self.done)
        return Progress(self.done, self.config.steps, step.loss, step.parts, self.measured, self.data_wait, eta,
                        self._advice())

    def _advice(self) -> Advice | None:
        return advise(self.measured, self.config.objectives, self.source.signature.action.kind != "none")

    # Checkpoints ---------------------------------------------------------------------------------------------------

    def _save_if_due(self) -> None:
        config = self.config
        due = config.checkpoint_steps and self.done - self.saved >= config.checkpoint_steps
        pause = max(config.checkpoint_seconds, _SAVING_SHARE * self.save_cost)
        if due or (config.checkpoint_seconds and time.perf_counter() - self.saved_at > pause):
            self.save()

    def save(self) -> None:
        """Commit everything that the next step depends on."""
        if self.run is None or self.store is None or self.saved == self.done:
            return
        began = time.perf_counter()
        state = self.learner.training_state()
        state["sampler.episode"], state["sampler.start"] = self.pending
        if self.config.prioritise:
            state["sampler.errors"] = torch.from_numpy(self.sampler.errors)
        self.run.metrics.flush()
        memory: dict[str, Any] = {"precision": self.learner.precision, "seconds": self.seconds}
        memory |= {"loss": self.loss, "gauges": self.measured, "levels": self.learner.ledger.state()}
        memory |= self.learner.structure() | {"advice": str(self._advice() or "")}
        self.store.save(self.done, self.learner.model_state(), state, memory, self.run.metrics.position)
        self.saved, self.saved_at = self.done, time.perf_counter()
        self.save_cost = self.saved_at - began

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        try:
            self.learner.load(checkpoint.model, state)
            self.pending = (state["sampler.episode"], state["sampler.start"])
            if self.config.prioritise:
                errors = state["sampler.errors"].numpy()
                if errors.shape != self.sampler.errors.shape:
                    raise KeyError("errors of this dataset's episodes")
                self.sampler.errors[:] = errors
            self.learner.precision = checkpoint.memory["precision"]
            self.earlier = checkpoint.memory["seconds"]
            self.measured = {n: _number(x) for n, x in checkpoint.memory["gauges"].items()}
            self.loss = _number(checkpoint.memory["loss"])
            self.learner.ledger.load(checkpoint.memory.get("levels", {}))  # older checkpoints did not count
        except KeyError as error:
            fix = "use the checkpoint's own run"
            raise CheckpointError("the whole state of a training", f"no {error}", fix) from error
        self.done = self.saved = checkpoint.step
        if self.run is not None and self.store is not None:
            self.store.discard_after(checkpoint.step)
            self.run.metrics.rewind(checkpoint.metrics)

    def trained(self) -> Trained:
        perception, model = self.learner.acting()
        return Trained(
            None if self.run is None else self.run.path,
            self.done,
            self.done >= self.config.steps,
            self.loss,
            self.seconds,
            self.data_wait,
            perception,
            model,
        )


def _number(value: float | None) -> float:
    """JSON has no NaN: it was written as null."""
    return float("nan") if value is None else value
