"""The levels of parameters: who owns which, under which optimiser, at which frequency; the learner walks over them.

Knows modules by their names. Shapes: none of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steersman.core.errors import CheckpointError, ConfigError
from steersman.core.ledger import Ledger
from steersman.core.levels import Level
from steersman.nn import AdamW
from steersman.training.config import ParameterLevel, TrainConfig

DEFAULT = ParameterLevel(name="parameters")
"""All parameters at every step: what a training does that names no levels."""


class OwnedLevel:
    """One level of parameters and what owns it: an optimiser, a schedule, the gradients gathered since the last update.

        g ← mean or sum of the gradients of `every` steps;   θ ← optimiser(θ, g) at every `every`-th step
    """

    def __init__(
        self, declared: ParameterLevel, named: Sequence[tuple[str, nn.Parameter]], config: TrainConfig
    ) -> None:
        self.declared, self.config = declared, config
        self.named = [(name, p) for name, p in named if p.requires_grad]
        optimiser = declared.optimiser or AdamW.Config(betas=config.betas, decay=config.weight_decay)
        self.optimiser = optimiser.build(self.named)
        self.level = Level(
            declared.name, f"parameters of {', '.join(x or 'everything' for x in declared.modules)}",
            " + ".join(tag_of(x) for x in config.objectives),
            _read(config),
            declared.every * points_of(config) if declared.every else math.inf,
        )
        several = declared.every > 1
        self._gathered = {name: torch.zeros_like(p) for name, p in self.named} if several else {}
        self._seen = {name: torch.zeros((), dtype=torch.int64) for name, _ in self.named} if several else {}

    def descend(self, step: int) -> None:
        """What follows the backward pass of step 0, 1, …"""
        every = self.declared.every
        if every > 1:
            self._gather()
            if (step + 1) % every:
                return
            self._hand_over()
        self.optimiser.step(learning_rate(self.config, self.declared, step))
        self.optimiser.forget_gradients()

    @torch.no_grad()
    def _gather(self) -> None:
        for name, p in self.named:
            if p.grad is not None:
                self._gathered[name] += p.grad
                self._seen[name] += 1
                p.grad = None

    def _hand_over(self) -> None:
        for name, p in self.named:
            gathered, count = self._gathered[name], int(self._seen[name])
            if count:
                p.grad = gathered.clone() if self.declared.gather == "sum" else gathered / count
            gathered.zero_()
            self._seen[name].zero_()

    def versions(self) -> list[int]:
        """How often each parameter was written to in place since it was made, as torch counts."""
        return [p._version for _, p in self.named]

    def state(self) -> dict[str, Tensor]:
        """optimiser.KIND.NAME and, where gradients are gathered, gathered.NAME and seen.NAME; views, not copies."""
        found = {f"optimiser.{name}": x for name, x in self.optimiser.state().items()}
        found |= {f"gathered.{name}": x for name, x in self._gathered.items()}
        return found | {f"seen.{name}": x for name, x in self._seen.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave; entries of other levels may stand beside it.

        Raises:
            CheckpointError: other names or shapes.
        """
        mine = self.state()
        missing = sorted(name for name in mine if name not in state)
        if missing:
            raise CheckpointError(f"{missing[0]} of level {self.declared.name!r}", "none",
                                  "use the checkpoint's own run")
        self.optimiser.load({name.removeprefix("optimiser."): state[name] for name in mine if _is_optimisers(name)})
        for name, x in mine.items():
            if not _is_optimisers(name):
                x.copy_(state[name])


def _read(config: TrainConfig) -> str:
    """What a step reads, for people."""
    if not config.window:
        return f"{config.batch_size} moments"
    return f"{config.batch_size} {'pieces' if config.feed == 'streams' else 'windows'} of {config.window} steps"


def learning_rate(config: TrainConfig, level: ParameterLevel, step: int) -> float:
    """Of a level at step 0, 1, …: linear warm-up, then the schedule; what the level does not say is the training's."""
    lr = config.lr if level.lr is None else level.lr
    warmup = config.warmup if level.warmup is None else level.warmup
    floor = config.floor if level.floor is None else level.floor
    if step < warmup:
        return lr * (step + 1) / warmup
    if (level.schedule or config.schedule) == "constant":
        return lr
    done = (step - warmup) / max(1, config.steps - warmup)
    return lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def tag_of(part: Any) -> str:
    """What a stored run calls a part, by its Config."""
    return str(type(part).__struct_config__.tag)


def _is_optimisers(name: str) -> bool:
    return name.startswith("optimiser.")


def points_of(config: TrainConfig) -> int:
    """Data points of one optimiser step: logged steps, or moments where windows are single moments."""
    return config.batch_size * max(1, config.window)


def own_levels(parts: nn.ModuleDict, config: TrainConfig) -> list[OwnedLevel]:
    """Every parameter in the level that names it most precisely, in the order of the configuration; what belongs to a
    level that never changes is frozen.

    Raises:
        ConfigError: a name that is no module, or a parameter that belongs to no level.
    """
    levels = config.levels or (DEFAULT,)
    modules = dict(parts.named_modules())
    for level in levels:
        for name in level.modules:
            if name not in modules:
                near = ", ".join(sorted(x for x in modules if x and x.count(".") <= name.count("."))[:12])
                raise ConfigError(f"a module for level {level.name!r}: {near}, …", repr(name), "correct its name")
    named: dict[str, list[tuple[str, nn.Parameter]]] = {level.name: [] for level in levels}
    for parameter, value in parts.named_parameters():
        fitting = [(len(name), level) for level in levels for name in level.modules if _within(parameter, name)]
        if not fitting:
            raise ConfigError("a level for every parameter", f"none for {parameter}", 'add a level with modules=("",)')
        owner = max(fitting, key=lambda item: item[0])[1]
        value.requires_grad_(value.requires_grad and owner.every > 0)
        named[owner.name].append((parameter, value))
    for level in levels:
        if not named[level.name]:
            where = ", ".join(name or "the rest" for name in level.modules)
            raise ConfigError(f"parameters for level {level.name!r}", f"none in {where}",
                              "drop the level, or name a module that has some no other level owns")
    return [OwnedLevel(level, named[level.name], config) for level in levels]


def _within(parameter: str, module: str) -> bool:
    return not module or parameter.startswith(f"{module}.")


def count_writes(ledger: Ledger, level: OwnedLevel, before: Sequence[int], points: int) -> None:
    """Enter one step into the ledger: a write if torch counts one on any parameter of the level."""
    changed = level.versions() != before
    ledger.count(level.declared.name, points=points, writes=int(changed))
