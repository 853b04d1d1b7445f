"""What training is told: one frozen structure that a run stores and that is all `resume` needs.

Knows which parts are configurable, not how they work.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steersman import objectives  # noqa: F401  they are registered
from steersman.agent.config import AgentConfig
from steersman.core import ConfigError, ObjectiveConfig, OptimiserConfig, Pace
from steersman.training.window_weights import WindowWeights


class RolloutStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How windows are cut into imagined rollouts during a part of the training.

    until    fraction of all steps at which this stage ends
    starts   rollouts per window, evenly spread
    horizon  steps of each
    """

    until: float = 1.0
    starts: int
    horizon: int

    def rows(self, window: int, history: int = 1) -> list[int]:
        """Rows of a window of `window` steps at which the rollouts begin; each has `history` moments up to there.

        >>> RolloutStage(starts=4, horizon=4).rows(16), RolloutStage(starts=2, horizon=8).rows(16)
        ([0, 4, 8, 12], [0, 8])
        """
        first, last = history - 1, window - self.horizon
        if self.starts == 1:
            return [first]
        return [first + round(i * (last - first) / (self.starts - 1)) for i in range(self.starts)]


class ParameterLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters that change together, at a frequency of their own.

    name       what people call it: one line, another one than those of averages ("average", "teacher 0", …)
    modules    whose parameters belong to it: "world_model", "perception.blocks.0", "objectives"; "" is every module. A
               parameter belongs to the level that names it most precisely
    every      optimiser steps from one update to the next; 0: never, they are frozen
    gather     what the gradients of these steps become: their mean, or their sum (a rate that grows with `every`)
    optimiser  None: AdamW with the training's betas and decay
    lr, warmup, schedule, floor   None: the training's. Steps are those of the training, not this level's updates
    """

    name: str
    modules: tuple[str, ...] = ("",)
    every: int = 1
    gather: Literal["mean", "sum"] = "mean"
    optimiser: OptimiserConfig | None = None
    lr: float | None = None
    warmup: int | None = None
    schedule: Literal["cosine", "constant"] | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        _require((self.warmup or 0) >= 0, "warmup of at least 0", self.warmup, "raise it, or leave it out")
        _require(self.every >= 0, "an update every 0 (never), 1, 2, … steps", self.every, "correct `every`")
        _require(self.name.isprintable() and bool(self.name.strip()), "a level's name, of one line", repr(self.name),
                 "name the level")
        _require(self.name.split(" ")[0] not in ("average", "teacher"), "a level's name that no average has",
                 repr(self.name), "call it otherwise")
        _require(bool(self.modules), f"modules of level {self.name!r}", "none", 'name some, or "" for all')
        _require(self.lr is None or self.lr > 0, "lr above 0", self.lr, "raise it, or freeze the level with every=0")


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole training.

    agent        the parts that learn (perception, world model) and those that use them; its `history` is how many
                 moments the world model sees before it imagines
    objectives   energies over parameters; their sum is descended
    steps        optimiser steps
    pace         how moments and steps of the model are made of the log's rows; "auto": as the log shows it to be needed
                 (`data.pace_for`), and the run keeps what that gave. Windows, horizons and the like are in model steps
    window       steps of a training window (L); it holds L + 1 observations. 0: single moments
    batch_size   windows per step, over all processes
    feed         "windows": drawn at random; "streams": `batch_size` streams, each read piece after piece of `window`
                 steps, for objectives whose state lives longer than a window
    levels       parameters that change at different frequencies, or by different optimisers; none: all at every step
    start_noise  Gaussian noise on the states from which rollouts begin: its largest deviation, drawn anew per rollout
    rollout      stages in order, the last until 1.0; default: one rollout through the whole window

    AdamW (Loshchilov & Hutter 2019):
    lr, weight_decay, betas   decay applies to matrices, not to biases, gains and norms
    warmup       steps of linear warm-up
    schedule     "cosine" down to lr * floor, or "constant"
    clip         largest norm of the gradient
    average      decay of an exponential moving average of the weights, used for acting; 0: none

    precision    "bf16" (autocast), "fp32", or "auto": whichever a short trial finds faster. The trial depends on
                 the machine; what it decided is stored, so that a resumed run does not change its mind
    device       "auto": a CUDA device if there is one
    prioritise   draw an episode in proportion to its last prediction error (relative to the mean, clipped .2-10)
    prefer       draw a window in proportion to how much happens in it, see `WindowWeights`; None: evenly
    prefetch     gather the next windows in a thread while the step runs
    held_out     share of the log, its last episodes, that is never trained on: its prediction error is a gauge, and
                 `steersman evaluate RUN --offline` measures on it how far the model can be trusted

    gauge_every        steps between collapse gauges (and the probe); 0: never
    probe              read the named columns of vector observations from latents by ridge regression, as a gauge
    checkpoint_seconds, checkpoint_steps   save when that much has passed (0: not by that measure); by the clock
                       less often if saving is slow, so that it takes at most 2% of the time; always at the end
    keep               checkpoints kept
    """

    agent: AgentConfig
    objectives: tuple[ObjectiveConfig, ...]
    steps: int
    pace: Pace | Literal["auto"] = Pace()
    window: int = 16
    batch_size: int = 48
    feed: Literal["windows", "streams"] = "windows"
    levels: tuple[ParameterLevel, ...] = ()
    rollout: tuple[RolloutStage, ...] = ()
    start_noise: float = 0.0

    lr: float = 3e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 20
    schedule: Literal["cosine", "constant"] = "cosine"
    floor: float = 0.0
    clip: float = 5.0
    average: float = 0.0

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    prioritise: bool = False
    prefer: WindowWeights | None = None
    prefetch: bool = True
    held_out: float = 0.0

    gauge_every: int = 50
    probe: bool = True
    checkpoint_seconds: float = 20.0
    checkpoint_steps: int = 0
    keep: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "keep"):
            _require(getattr(self, name) >= 1, f"{name} of at least 1", getattr(self, name), "raise it")
        for name in ("window", "warmup", "gauge_every", "checkpoint_steps", "checkpoint_seconds", "weight_decay",
                     "seed"):
            _require(getattr(self, name) >= 0, f"{name} of at least 0", getattr(self, name), "raise it")
        _require(self.lr > 0, "lr above 0", self.lr, "raise it")
        _require(self.clip > 0, "clip above 0", self.clip, "raise it")
        _require(0 <= self.average < 1, "average in [0, 1)", self.average, "use .99 to .9999, or 0")
        _require(0 <= self.held_out < 1, "held_out in [0, 1)", self.held_out, "hold out .05 to .2, or 0")
        _require(len(self.objectives) > 0, "at least one objective", "none", "name objectives to descend")
        _require(self.feed == "windows" or self.window >= 1, "pieces of at least 1 step", self.window, "raise `window`")
        _require(self.feed == "windows" or not self.prioritise, "streams in their own order",
                 "prioritised episodes", "set prioritise=False")
        if self.prefer is not None:
            _require(self.feed == "windows" and self.window >= 1, "windows of at least 1 step, to prefer some",
                     f"feed {self.feed!r}, window {self.window}", "set prefer=None")
            _require(not self.prioritise, "one way of preferring windows", "prioritise and prefer",
                     "set prioritise=False")
        names = [level.name for level in self.levels]
        _require(len(set(names)) == len(names), "levels of different names", ", ".join(names), "rename one")
        owned = [module for level in self.levels for module in level.modules]
        twice = sorted({repr(module) for module in owned if owned.count(module) > 1})
        _require(not twice, "each module in one level", f"{', '.join(twice)} in several", "name it in one of them")
        if self.window:
            self._require_stages()

    def _require_stages(self) -> None:
        _require(self.longest >= 1, f"a window of at least {self.agent.history} steps", self.window, "lengthen it")
        before = 0.0
        for stage in self.stages:
            _require(
                before < stage.until <= 1,
                f"rollout stages with growing `until` up to 1 (after {before:g})",
                f"{stage.until:g}",
                "order the stages",
            )
            before = stage.until
            room = self.longest - stage.horizon
            _require(
                stage.horizon >= 1 and room >= 0,
                f"a horizon from 1 to {self.longest} (window - agent.history + 1)",
                stage.horizon,
                "shorten the horizon or lengthen the window",
            )
            _require(
                1 <= stage.starts <= room + 1,
                f"1 to {room + 1} starts of horizon {stage.horizon}",
                stage.starts,
                "lower `starts` or lengthen the window",
            )
        _require(before == 1, "a last rollout stage with until = 1", f"{before:g}", "set until = 1 in the last stage")

    @property
    def longest(self) -> int:
        """The longest horizon that fits into a window after its history."""
        return self.window - self.agent.history + 1

    @property
    def stages(self) -> tuple[RolloutStage, ...]:
        return self.rollout or (RolloutStage(starts=1, horizon=max(1, self.longest)),)

    def stage(self, step: int) -> RolloutStage:
        """The stage of step 0, 1, …"""
        return next((s for s in self.stages if step < round(s.until * self.steps)), self.stages[-1])


def _require(fine: bool, expected: str, got: object, fix: str) -> None:
    if not fine:
        raise ConfigError(expected, f"{got}", fix)
