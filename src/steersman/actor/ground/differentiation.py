"""Gradients in actions, also where an agent decides without any (inference mode). Knows no planner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def differentiable() -> Iterator[None]:
    """Within it, what is computed can be differentiated, whatever mode the caller is in.

    A tensor made in inference mode (a belief, a goal, weights that were loaded there) refuses to be saved for a
    backward pass; the first operation that meets one works on a copy instead, made once.
    """
    with torch.inference_mode(False), torch.enable_grad(), _Thawing():
        yield


class _Thawing(TorchFunctionMode):
    """Operations take copies of tensors that were made in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # both are kept: an id must not be used again

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if kwargs:
            kwargs = {name: self._thawed(value) for name, value in kwargs.items()}
            return func(*map(self._thawed, args), **kwargs)
        return func(*map(self._thawed, args))

    def _thawed(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if not value.is_inference():
                return value
            if id(value) not in self._copies:
                self._copies[id(value)] = value, value.clone()
            return self._copies[id(value)][1]
        if isinstance(value, (list, tuple)):
            thawed = [self._thawed(inner) for inner in value]
            return thawed if isinstance(value, list) else tuple(thawed)
        return value
