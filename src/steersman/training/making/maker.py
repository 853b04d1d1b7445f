"""How needs are met: a maker for each kind of need, the workbench that makers share, and what is refused beforehand.

Knows boxes only through core's interfaces and no need in particular. Shapes: B windows of this process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from steersman.core.boxes import Objective, Perception
from steersman.core.errors import ConfigError
from steersman.core.learning import Average, Need
from steersman.core.records import TensorRecord, tensors
from steersman.core.signature import Signature
from steersman.core.types import Belief, Window
from steersman.core.world_model import WorldModel
from steersman.training.config import RolloutStage, TrainConfig
from steersman.training.processes import Processes

N = TypeVar("N", bound=Need[Any])
Made = TypeVar("Made")


@dataclass(frozen=True)
class Given:
    """What a training is given: whether a need can be met is decided by this alone, before the first step."""

    config: TrainConfig
    signature: Signature
    perception: Perception
    world_model: WorldModel | None


class Maker(ABC, Generic[N, Made]):
    """Makes one kind of need."""

    def within(self, need: N) -> tuple[Need[Any], ...]:
        """Needs that it is made from: what refuses them refuses this one."""
        return ()

    def require(self, need: N, given: Given) -> None:
        """Refuse a need that cannot be met.

        Raises:
            ConfigError: says what is missing, and what to do.
        """

    @abstractmethod
    def make(self, need: N, making: Making) -> Made:
        """Called at most once a step, under autocast."""


_MAKERS: dict[type[Need[Any]], Maker[Any, Any]] = {}


def makes(kind: type[Need[Any]]) -> Callable[[type[Maker[Any, Any]]], type[Maker[Any, Any]]]:
    """Class decorator: the maker of a kind of need. A later one for the same kind takes its place."""

    def add(maker: type[Maker[Any, Any]]) -> type[Maker[Any, Any]]:
        _MAKERS[kind] = maker()
        return maker

    return add


@dataclass(frozen=True)
class Carry(TensorRecord):
    """Where each of B streams stopped: the belief there, and of which episode's which row it speaks."""

    belief: Belief
    episode: Tensor
    row: Tensor

    def state(self) -> dict[str, Tensor]:
        """carry.NAME for every tensor."""
        return tensors(self, "carry")

    @classmethod
    def restored(cls, state: Mapping[str, Tensor], device: torch.device) -> Carry | None:
        """From what `state` gave, among other entries; None: nothing was carried."""
        if "carry.row" not in state:
            return None
        here = {name: x.to(device) for name, x in state.items() if name.startswith("carry.")}

        def several(name: str) -> tuple[Tensor, ...]:
            return tuple(here[f"{name}.{i}"] for i in range(len(here)) if f"{name}.{i}" in here)

        belief = Belief(here["carry.belief.state"], here.get("carry.belief.context"), several("carry.belief.carry"),
                        several("carry.belief.shared"))
        return cls(belief, here["carry.episode"], here["carry.row"])


@dataclass
class Making:
    """The workbench of one step.

    parts      modules: perception, world_model (where there is one), objectives
    signature  of the data
    window     B windows, this process's part of the batch
    config     the training's
    stage      how rollouts are cut
    processes  who shares the batch
    teachers   schedule -> the moving average of all parts
    carry      where the streams stopped, None at the first piece
    student    the bench of those who learn, if these parts are a teacher's
    """

    parts: nn.ModuleDict
    signature: Signature
    window: Window
    config: TrainConfig
    stage: RolloutStage
    processes: Processes = field(default_factory=Processes)
    teachers: Mapping[Average, nn.ModuleDict] = field(default_factory=dict)
    carry: Carry | None = None
    student: Making | None = None
    made: dict[Need[Any], Any] = field(default_factory=dict)

    @property
    def perception(self) -> Perception:
        return cast(Perception, self.parts["perception"])

    @property
    def world_model(self) -> WorldModel:
        return cast(WorldModel, self.parts["world_model"])

    @property
    def device(self) -> torch.device:
        return self.window.actions.device

    def of(self, need: Need[Made]) -> Made:
        """What is made for a need, made now unless it was before."""
        if need not in self.made:
            self.made[need] = _MAKERS[type(need)].make(need, self)
        return cast(Made, self.made[need])

    def shared(self, need: Need[Made]) -> Made:
        """What is made without any parts, once for student and teachers: views and masks, not their latents."""
        return (self.student or self).of(need)

    def drawn(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Random numbers of these B windows: rows of what `draw(windows)` gives for the whole batch, so that a window
        gets the same however many processes share the batch."""
        each, whole = len(self.window), len(self.window) * self.processes.size
        numbers = draw(whole)
        rows = len(numbers) // whole
        return numbers[self.processes.rank * each * rows : (self.processes.rank + 1) * each * rows]


def require_needs(objective: Objective, given: Given) -> None:
    """Refuse objectives whose needs cannot be met by the data and the parts, or that exclude each other's.

    Raises:
        ConfigError: the first need that cannot be met; what is missing, and what to do.
    """
    needs = _with_inner(objective.needs)
    kinds = {type(need) for need in needs}
    for kind, why in objective.forbids.items():
        if kind in kinds:
            raise ConfigError(f"objectives that stand beside each other: {why}", f"one that needs {kind.__name__}",
                              "drop one of the two")
    for need in needs:
        _MAKERS[type(need)].require(need, given)


def _with_inner(needs: Iterable[Need[Any]]) -> tuple[Need[Any], ...]:
    """Needs and all that they are made from, each once."""
    found: dict[Need[Any], None] = {}
    for need in needs:
        if type(need) not in _MAKERS:
            raise ConfigError(f"a maker for {type(need).__qualname__}", "none in this process",
                              "import the module that registers it (`training.makes`)")
        found |= dict.fromkeys(_with_inner(_MAKERS[type(need)].within(need)))
        found[need] = None
    return tuple(found)


def require_model(need: Need[Any], given: Given) -> WorldModel:
    """The world model, which this need cannot do without.

    Raises:
        ConfigError: there is none.
    """
    if given.world_model is None:
        raise ConfigError(f"a world model for {need.name}", "none in the agent's configuration",
                          "set `agent.world_model`, or drop the objectives that foresee")
    return given.world_model
