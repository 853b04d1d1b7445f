"""Intrinsic costs: frozen, hashed when the agent is built, and never the same again unnoticed.

Knows no particular cost. What a task may change is how much one counts, never what it says.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from types import CodeType, FunctionType
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Cost, Imagined, SealError, Task

_MERGED = {"steersman.cost.curiosity.CuriosityCost": {
    "class": "steersman.cost.disagreement.DisagreementCost", "name": "'curiosity'"}}
"""Classes that became another's option -> what a seal of theirs is today."""
_SHOWN = 4  # changes named in an error
_DEPTH = 12
_PLAIN = (str, bytes, bool, int, float, complex, type(None), PurePath, torch.dtype, torch.device, torch.Size, range)


class Sealed(Cost):
    """A cost that can be weighed and not be changed. In every task it weighs 1, in its own unit, unless the task says
    otherwise: E = C / unit of the cost C that was sealed (`Cost.unit`).

    It must have no trainable parameter. When sealed, everything that it is made of is hashed: class and code, weights
    and buffers, attributes down to the last number, functions that it was given. `verify` compares; attributes of the
    seal itself cannot be set at all. An agent verifies its intrinsic costs when it is built, loaded and reset, and
    training does after every step.

    Code that a cost calls in other modules is not part of the hash, and a process that is out to deceive can rewrite
    hashes too: the seal finds mistakes and learning where none may be, not an intruder.

    Raises:
        ConfigError: a trainable parameter, or something that cannot be hashed (an open file, a generator).
        SealError: an attribute was set (`verify`: anything changed).
    """

    def __init__(self, cost: Cost) -> None:
        if isinstance(cost, nn.Module):
            cost.eval()
        found = fingerprint(cost)
        trainable = [path for path, value in found.items() if value.endswith(_TRAINABLE)]
        if trainable:
            raise ConfigError("an intrinsic cost without trainable parameters", f"{cost.name!r} with {trainable[0]}",
                              "call requires_grad_(False) on it, or make it an ordinary cost")
        if not 0 < cost.unit < math.inf:
            raise ConfigError("an intrinsic cost with a unit above 0", f"{cost.name!r} with {cost.unit}",
                              "give the energy of one step that counts as 1")
        for name, value in {"name": cost.name, "unit": cost.unit, "_cost": cost, "_found": found}.items():
            object.__setattr__(self, name, value)

    intrinsic = True
    _cost: Cost
    _found: Mapping[str, str]

    def __setattr__(self, name: str, value: Any) -> None:
        raise SealError(f"intrinsic cost {self.name!r} to stay as it was sealed", f"an attempt to set {name}",
                        "weigh it in the task, or build another agent")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    @property
    def inner(self) -> Cost:
        """What was sealed."""
        return self._cost

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        energy = self._cost.energy(imagined, actions, task)
        return energy if self.unit == 1 else energy / self.unit

    @property
    def fingerprint(self) -> dict[str, str]:
        """What was sealed, part by part, without code: the same in every process that builds it alike."""
        return {path: value for path, value in self._found.items() if not path.endswith("()")}

    def verify(self, stored: Mapping[str, str] | None = None) -> None:
        """Compare with what was sealed, and with a `fingerprint` that was stored.

        Raises:
            SealError: names what changed.
        """
        _compare(self.name, self._found, fingerprint(self._cost), "when the agent was built")
        if stored is not None:
            stored = {**stored, **_MERGED.get(stored.get("class", ""), {})}
            _compare(self.name, stored, self.fingerprint, "when the run was made")


def _compare(name: str, before: Mapping[str, str], after: Mapping[str, str], when: str) -> None:
    if before == after:
        return
    changes = [f"{path}: {before.get(path, 'nothing')} became {after.get(path, 'nothing')}"
               for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    raise SealError(f"intrinsic cost {name!r} as it was {when}", "; ".join(changes[:_SHOWN]) + more,
                    "restore it: only a task's weights may change how much it counts")


# What something is made of --------------------------------------------------------------------------------------

_TRAINABLE = " (trainable)"


def fingerprint(part: object) -> dict[str, str]:
    """Path -> what stands there, shortened to a hash where it is long. Paths that end in "()" are code.

    >>> class Weighted:
    ...     def __init__(self): self.limit, self.weight = 2.0, torch.zeros(3)
    >>> found = fingerprint(Weighted())
    >>> found["limit"], found["weight"][:10]
    ('2.0', 'float32[3]')

    Raises:
        ConfigError: something that cannot be hashed.
    """
    found: dict[str, str] = {}
    for path, value in _leaves(part, "", (), ()):
        found[path or "class"] = value
    return found


def _leaves(value: Any, path: str, above: tuple[int, ...], within: tuple[type, ...]) -> Iterator[tuple[str, str]]:
    if id(value) in above or len(above) > _DEPTH:
        yield path, "a way back to itself"
        return
    above = (*above, id(value))
    if isinstance(value, Tensor):
        yield path, _tensor(value)
    elif isinstance(value, np.ndarray):
        yield path, f"{value.dtype}{list(value.shape)} {_short(np.ascontiguousarray(value).tobytes())}"
    elif isinstance(value, type):
        yield path, f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, (*_PLAIN, np.generic)):
        words = repr(value)
        yield path, words if len(words) <= 40 else f"{type(value).__name__} {_short(words.encode())}"
    elif isinstance(value, Mapping):
        yield path, f"{type(value).__name__} of {len(value)}"
        for key in sorted(value, key=repr):
            yield from _leaves(value[key], f"{path}[{key!r}]", above, within)
    elif isinstance(value, (set, frozenset)):
        yield path, f"{type(value).__name__} of {len(value)} {_short(repr(sorted(map(repr, value))).encode())}"
    elif isinstance(value, Sequence):
        yield path, f"{type(value).__name__} of {len(value)}"
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]", above, within)
    elif isinstance(value, FunctionType):
        yield f"{path}()", _code(value)
        for i, cell in enumerate(value.__closure__ or ()):
            yield from _leaves(cell.cell_contents, f"{path}.closure[{i}]", above, within)
    else:
        yield from _object(value, path, above, within)


def _object(value: Any, path: str, above: tuple[int, ...], within: tuple[type, ...]) -> Iterator[tuple[str, str]]:
    kind, dot = type(value), f"{path}." if path else ""
    attributes: dict[str, Any]
    yield path, f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.split(".")[0] not in ("torch", "builtins") and kind not in within:
        for owner in kind.__mro__:
            if owner.__module__.split(".")[0] in ("torch", "builtins", "abc", "typing", "msgspec"):
                continue
            for name, member in sorted(vars(owner).items()):
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if isinstance(function, FunctionType):
                    yield f"{dot}{owner.__qualname__.rpartition('.')[2]}.{name}()", _code(function)
    if isinstance(value, nn.Module):
        for name, tensor in [*value.named_parameters(recurse=False), *value.named_buffers(recurse=False)]:
            yield f"{dot}{name}", _tensor(tensor)
        for name, child in value.named_children():
            yield from _leaves(child, f"{dot}{name}", above, (*within, kind))
        hooks = sum(len(hook) for name, hook in vars(value).items() if name.endswith("_hooks"))
        yield f"{dot}hooks", f"{hooks}"
        attributes = {n: x for n, x in vars(value).items() if not n.startswith("_") or n not in vars(nn.Module())}
    elif isinstance(value, msgspec.Struct):
        attributes = {name: getattr(value, name) for name in value.__struct_fields__}
    elif hasattr(value, "__dict__"):
        attributes = dict(vars(value))
    elif hasattr(value, "__func__"):
        attributes = {"function": value.__func__, "self": value.__self__}
    elif hasattr(value, "__name__"):  # built in, or a module
        yield path, f"{getattr(value, '__module__', '')}.{value.__name__}"
        return
    else:
        raise ConfigError("an intrinsic cost made of numbers, tensors, functions and plain objects",
                          f"{kind.__qualname__} at {path or 'its top'}", "build it from what can be hashed")
    for name, inner in sorted(attributes.items()):
        yield from _leaves(inner, f"{dot}{name}", above, (*within, kind))


def _tensor(value: Tensor) -> str:
    plain = value.detach().cpu().contiguous()
    content = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    trainable = _TRAINABLE if value.requires_grad and isinstance(value, nn.Parameter) else ""
    kind = str(plain.dtype).removeprefix("torch.")
    shown = f" {plain.item():.6g}" if plain.numel() == 1 and math.isfinite(float(plain.double())) else ""
    return f"{kind}{list(plain.shape)}{shown} {_short(content)}{trainable}"


def _code(function: FunctionType) -> str:
    """Of the function's instructions, constants, names and defaults: the same in one version of Python only."""
    def parts(code: CodeType) -> bytes:
        inner = b"".join(parts(x) if isinstance(x, CodeType) else repr(x).encode() for x in code.co_consts)
        return code.co_code + repr(code.co_names).encode() + inner

    defaults = repr((function.__defaults__, function.__kwdefaults__)).encode()
    return f"code {_short(parts(function.__code__) + defaults)}"


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
