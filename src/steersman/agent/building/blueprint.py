"""Building what a stored configuration describes, only as far as the stored tensors vouch for its size.

A configuration that came with somebody else's weights may ask for anything. The header of the weights' file sets a
ledger; every tensor that building asks for is entered before it is allocated, and the first one out of proportion is
refused. What was built is then compared with the header by name, shape and type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steersman.core.errors import CheckpointError, SteersmanError
from steersman.runs.tensors import Header

M = TypeVar("M", bound=nn.Module)

LARGEST = 1 << 20
"""Largest whole number in a stored configuration: no width, depth or count is larger."""
SCRATCH = 1 << 22
"""Numbers that building may ask for beyond twice what is stored: position codes, intermediate results."""
PLAN = 1 << 24
"""Largest product of two whole numbers of a stored planner (samples by horizon, nodes by directions)."""

_FIX = "use the configuration that was stored with these weights"
_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}


def build_like(build: Callable[[], M], header: Header, where: str, *configs: Any) -> M:
    """What `build` returns, never larger than the tensors of `header` (a module that has exactly these).

    configs  what `build` reads: whole numbers in there are capped first
    where    names the file in errors

    Raises:
        CheckpointError: another name, shape, type or count of tensors, or sizes that no file of this header needs.
        ConfigError: the parts refuse their configuration.
    """
    for config in configs:
        require_sane(config, where)
    with _refused(where), _Ledger(header, where):
        built = build()
    require_same(built.state_dict(), header, where)
    return built


def require_sane(config: Any, where: str) -> None:
    """Refuse a configuration with a whole number above `LARGEST`."""
    for name, value in _whole_numbers(msgspec.to_builtins(config)):
        if abs(value) > LARGEST:
            got = f"{name} {value}"
            raise CheckpointError(f"sizes of at most {LARGEST} in the configuration of {where}", got, _FIX)


def require_plannable(planner: Any, where: str) -> None:
    """Refuse a stored planner that would imagine more at once than any machine holds."""
    require_sane(planner, where)
    found = sorted(_whole_numbers(msgspec.to_builtins(planner)), key=lambda item: item[1])[-2:]
    if len(found) == 2 and found[0][1] * found[1][1] > PLAN:
        got = " and ".join(f"{name} {value}" for name, value in found)
        raise CheckpointError(f"a planner of at most {PLAN} imagined steps at a time in {where}", got, _FIX)


def require_same(tensors: Mapping[str, Tensor], header: Header, where: str) -> None:
    """Compare names, shapes and types.

    Raises:
        CheckpointError: names the first difference.
    """
    for name in sorted(tensors.keys() | header.keys()):
        mine, theirs = tensors.get(name), header.get(name)
        wanted = "nothing" if mine is None else f"{_TYPES.get(mine.dtype, mine.dtype)} {list(mine.shape)}"
        found = "nothing" if theirs is None else f"{theirs.dtype} {list(theirs.shape)}"
        if wanted != found:
            raise CheckpointError(f"{name} in {where}: {wanted}, as its configuration says", found, _FIX)


def _whole_numbers(value: Any, name: str = "config") -> Iterator[tuple[str, int]]:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _whole_numbers(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _whole_numbers(inner, f"{name}[{i}]")


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """What torch says of impossible sizes, as one sentence; what the parts say passes."""
    try:
        yield
    except SteersmanError:
        raise
    except Exception as error:  # which exceptions impossible sizes raise in torch is not documented
        got = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"a configuration that can be built in {where}", got, _FIX) from error


class _Ledger(TorchFunctionMode):
    """Sees every torch function before it runs, and refuses the one that would make too much.

    A factory (`torch.empty`, …) is charged what it asks for; any other function must not return more than the
    broadcast, or the sum, of what it is given. Numbers and calls are both limited: a million tiny layers cost time.
    """

    def __init__(self, header: Header, where: str) -> None:
        super().__init__()
        self.stored = sum(tensor.numbers for tensor in header.values())
        self.numbers, self.calls = 2 * self.stored + SCRATCH, 16 * len(header) + 4096
        self.where = where
        self._limit = self.numbers

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        asked = _asked(name, args, kwargs)
        if asked is not None:
            self.numbers, self.calls = self.numbers - asked, self.calls - 1
        if min(self.numbers, self.calls) < 0 or _given(args, kwargs) > self._limit:
            raise CheckpointError(
                f"a configuration of {self.stored} numbers, as {self.where} holds", f"far more ({name})", _FIX
            )
        return function(*args, **kwargs)


_FACTORIES = frozenset(
    "empty zeros ones full rand randn randint empty_strided new_empty new_zeros new_ones new_full".split()
)
_RANGES = frozenset("arange linspace logspace range".split())


def _asked(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Numbers that a factory asks for; None: it is no factory."""
    sizes = [abs(x) for x in _integers((args, tuple(kwargs.values())))]
    if name in _FACTORIES:
        return math.prod(sizes)
    if name in _RANGES:
        return max(sizes, default=0)
    return max(sizes, default=0) ** 2 if name == "eye" else None


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _integers(inner)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _tensors(inner)


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The most numbers that a function of these tensors can return, short of a product of matrices."""
    shapes = [x.shape for x in _tensors((args, tuple(kwargs.values())))]
    total = sum(math.prod(shape) for shape in shapes)
    return max(total, _broadcast(shapes))


def _broadcast(shapes: Iterable[Iterable[int]]) -> int:
    sides: list[int] = []
    for shape in shapes:
        for i, size in enumerate(reversed(tuple(shape))):
            if i == len(sides):
                sides.append(size)
            sides[i] = max(sides[i], size)
    return math.prod(sides)
