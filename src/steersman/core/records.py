"""Records of tensors: frozen dataclasses that can be mapped, cut to rows, chosen between, written into and joined.

The one place that knows how to walk through what is nested: tensors, records, mappings and tuples of them. Anything
else (a name, a number, None) is passed on as it is. Shapes: B rows, the leading dimension of every tensor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def apply(f: Callable[..., Any], first: T, *others: Any) -> T:
    """`f` on every tensor inside, and on the tensors that stand at the same places in `others`. Where one of them has
    nothing (None), there is nothing.

    Raises:
        ValueError: the others are of another form.
    """
    value: Any = first
    if any(other is None for other in others):
        return None  # type: ignore[return-value]
    if isinstance(value, Tensor):
        return f(value, *others)  # type: ignore[no-any-return]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if any(type(other) is not type(value) for other in others):
            raise ValueError(f"records of one kind belong together; got {[type(x).__name__ for x in (value, *others)]}")
        changes = {x.name: apply(f, getattr(value, x.name), *(getattr(other, x.name) for other in others))
                   for x in dataclasses.fields(value)}
        return replace(value, **changes)  # type: ignore[return-value]
    if isinstance(value, Mapping):
        return {k: apply(f, v, *(other[k] for other in others)) for k, v in value.items()}  # type: ignore[return-value]
    if isinstance(value, (tuple, list)):
        found = [apply(f, *inner) for inner in zip(value, *others, strict=True)]
        return type(value)(found)  # type: ignore[return-value]
    return first


def rows(value: T, index: Any) -> T:
    """Some rows of every tensor: `index` is a mask (B,), indices, or a slice."""
    return apply(lambda x: x[index.to(x.device) if isinstance(index, Tensor) else index], value)


def where(mask: Tensor, yes: T, no: T) -> T:
    """Row by row: `yes` where the mask (B,) holds, else `no`."""
    return apply(lambda a, b: torch.where(mask.to(a.device).view(-1, *[1] * (a.dim() - 1)), a, b), yes, no)


def put(old: T, index: Tensor, new: T) -> T:
    """`old` with the rows `index` (a mask or indices) replaced by the rows of `new`; `old` itself stays as it is."""

    def write(x: Tensor, rows_: Tensor) -> Tensor:
        written = x.clone()
        written[index.to(x.device)] = rows_.to(x.dtype)
        return written

    return apply(write, old, new)


def join(values: Sequence[T]) -> T:
    """The rows of all of them, one after the other."""
    first, *others = values
    return apply(lambda *tensors: torch.cat(tensors), first, *others) if others else first


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor inside under the way to it: "warm.mean", "carry.0"."""
    if isinstance(value, Tensor):
        return {name: value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {x.name: getattr(value, x.name) for x in dataclasses.fields(value)}
    elif isinstance(value, (tuple, list)):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {}
    dot = f"{name}." if name else ""
    return {way: x for key, inner in value.items() for way, x in tensors(inner, f"{dot}{key}").items()}


class TensorRecord:
    """Mixin for frozen dataclasses: what the functions of this file do, as methods."""

    def map(self, f: Callable[[Tensor], Tensor]) -> Self:
        return apply(f, self)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        return self.map(lambda x: x.to(*args, **kwargs))

    def rows(self, index: Any) -> Self:
        return rows(self, index)

    def where(self, mask: Tensor, other: Self) -> Self:
        """Where the mask (B,) does not hold, the other's rows."""
        return where(mask, self, other)

    def put(self, index: Tensor, new: Self) -> Self:
        return put(self, index, new)

    def join(self, *others: Self) -> Self:
        return join([self, *others])
