"""What an agent carries from one decision to the next, as tensors that can be stored.

Shapes: B problems, T moments of history, A action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from steersman.core import RunError


@dataclass(frozen=True)
class Carried:
    """states (B, T, …) the last moments, actions (B, T-1, A) between them, done (B, 1, A) the last plan's first
    action, outside (B, T-1, E) the exogenous inputs between the moments; warm is the planner's; decision counts within
    the episode. None where there is nothing yet."""

    states: Tensor | None = None
    actions: Tensor | None = None
    done: Tensor | None = None
    outside: Tensor | None = None
    warm: Any = None
    decision: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under a name."""
        named = {"states": self.states, "actions": self.actions, "done": self.done, "outside": self.outside}
        found = {name: value for name, value in named.items() if value is not None}
        return found | _flat(self.warm, "warm")

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], decision: int, form: Any) -> Carried:
        """From stored tensors. `form` is a warm start of the planner in question, whatever it holds: it says what the
        tensors are parts of, so that a file never names a class.

        Raises:
            RunError: the tensors are not those of such a warm start.
        """
        warm = {name: value for name, value in tensors.items() if name.split(".")[0] == "warm"}
        return cls(
            tensors.get("states"), tensors.get("actions"), tensors.get("done"), tensors.get("outside"),
            _like(form, warm, "warm") if warm else None, decision,
        )


def _flat(value: Any, name: str) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {name: value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, (tuple, list)):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}").items()}
    return {}


def _like(form: Any, tensors: Mapping[str, Tensor], name: str) -> Any:
    """`form` with its tensors replaced by the stored ones."""
    if isinstance(form, Tensor) or form is None:
        return tensors.get(name)
    if dataclasses.is_dataclass(form) and not isinstance(form, type):
        fields = {f.name: _like(getattr(form, f.name), tensors, f"{name}.{f.name}") for f in dataclasses.fields(form)}
        if not any(key.startswith(f"{name}.") for key in tensors):
            return None
        unknown = sorted({key.split(".")[name.count(".") + 1] for key in tensors if key.startswith(f"{name}.")}
                         - set(fields))
        if unknown:
            raise RunError(f"a warm start {type(form).__name__}", f"one with {', '.join(unknown)}",
                           "replay with the version of steersman that recorded it")
        return dataclasses.replace(form, **fields)
    if isinstance(form, (tuple, list)):
        return type(form)(_like(inner, tensors, f"{name}.{i}") for i, inner in enumerate(form))
    if isinstance(form, Mapping):
        return {key: _like(inner, tensors, f"{name}.{key}") for key, inner in form.items()}
    return form
