"""A teacher's latents: any other need, made by a moving average of all modules, and no gradient with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from steersman.core.errors import ConfigError
from steersman.core.learning import Carried, Need, Taught, Teacher
from steersman.training.making.maker import Given, Maker, Making, makes


@makes(Teacher)
class MakeTaught(Maker[Teacher[Any], Taught[Any]]):
    """The teacher sees the same views and the same masks as the student."""

    def within(self, need: Teacher[Any]) -> tuple[Need[Any], ...]:
        return (need.of,)

    def require(self, need: Teacher[Any], given: Given) -> None:
        if isinstance(need.of, (Carried, Teacher)):
            raise ConfigError("a teacher of latents, views, masks or rollouts", f"one of {need.of.name}",
                              "let the student carry state, and the teacher look at the moments (`Encoded`)")

    def make(self, need: Teacher[Any], making: Making) -> Taught[Any]:
        parts = making.teachers[need.average]
        student = {id(module): name for name, module in making.parts.named_modules()}

        def twin(module: nn.Module) -> nn.Module:
            return parts.get_submodule(student[id(module)])

        with torch.no_grad():
            bench = replace(making, parts=parts, made={}, student=making)
            return Taught(bench.of(need.of), twin)
