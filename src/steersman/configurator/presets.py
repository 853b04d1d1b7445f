"""A configurator of plain settings: what whoever made an agent found to be right for a task, under the task's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from steersman.core import ConfigError, Configurator, Signature, Task, register


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the other boxes; None, or empty, says nothing.

    weights         of cost terms that the task does not name (u and v of the architecture)
    horizon         steps to imagine
    calls, seconds  of one decision, the budget of deliberation
    planner, skill, levels, react, attend   see `TaskSettings`
    """

    weights: dict[str, float] = {}
    horizon: int | None = None
    calls: int | None = None
    seconds: float | None = None
    planner: dict[str, Any] = {}
    skill: str = ""
    levels: tuple[str, ...] | None = None
    react: int | None = None
    attend: str = ""

    def said(self) -> dict[str, Any]:
        """Name -> setting, without those that say nothing."""
        every = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in every.items() if value is not None and value != {} and value != ""}


class Presets(Configurator):
    """Settings by `Task.name`. What the task itself says wins; then what stands under its name; then `otherwise`.

    It owns no parameters and learns nothing. Weights are added: those of the name, of `otherwise`, and of the task, in
    the order in which they win.

    Raises:
        ConfigError: a horizon or a budget below 1 call.
    """

    @register(Configurator)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="presets"):
        """tasks: name of a task -> its settings; otherwise: for every task."""

        tasks: dict[str, Preset] = {}
        otherwise: Preset = Preset()

        def __post_init__(self) -> None:
            for name, preset in {**self.tasks, "otherwise": self.otherwise}.items():
                if min(preset.horizon or 1, 1 if preset.calls is None else preset.calls) < 1:
                    raise ConfigError(f"a horizon and calls of at least 1 in {name!r}", f"{preset}", "raise them")

        def build(self, signature: Signature) -> Presets:
            return Presets(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def configure(self, task: Task) -> Mapping[str, object]:
        named = self.config.tasks.get(task.name, Preset()).said() if task.name else {}
        common = self.config.otherwise.said()
        both = {**common, **named}
        for name in ("weights", "planner"):
            if name in common and name in named:
                both[name] = {**common[name], **named[name]}
        return both
