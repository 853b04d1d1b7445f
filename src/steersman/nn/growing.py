"""Low-rank layers over weights that are there, and the changes of a model: layers added, merged, removed, parts frozen.

The layers over a weight are one parametrisation of torch's: any module with a weight matrix can have them, and its own
code does not know of it. Shapes: weight (O, I), (E, O, I) of E members, or (O, C, h, w) of a convolution; r rank.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from steersman.core.errors import CheckpointError, ConfigError
from steersman.core.growing import Change

_WEIGHT = "weight"
M = TypeVar("M", bound=nn.Module)


class LowRank(nn.Module):
    """One layer: up·down, up (…, O, r) zero at first, down (…, r, I) uniform in ±√(3 / I) (LoRA, Hu et al. 2022).

    A convolution's weight counts as (O, C·h·w); a weight of E members has a layer for each of them. The first numbers
    of `down` are a function of the layer's name, rank and shape alone.
    """

    def __init__(self, weight: Tensor, rank: int, name: str) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        lead = self.shape[:1] if weight.dim() == 3 else ()
        out = self.shape[len(lead)]
        into = weight.numel() // out // (lead[0] if lead else 1)
        if rank > min(out, into):
            raise ConfigError(f"a rank of at most {min(out, into)} over a weight {self.shape}", f"{rank}", "lower it")
        digest = hashlib.blake2b(f"{name} {self.shape} {rank}".encode(), digest_size=4).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        down = (torch.rand(*lead, rank, into, generator=generator) * 2 - 1) * (3 / into) ** 0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(*lead, out, rank))

    def forward(self) -> Tensor:
        """What it adds to the weight, in the weight's shape."""
        return (self.up @ self.down).view(self.shape)


class LowRankLayers(nn.Module):
    """W ↦ W + Σ_l up_l·down_l, the layers by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()

    def forward(self, weight: Tensor) -> Tensor:
        for layer in self.layers.values():
            weight = weight + layer()
        return weight


def layers_of(module: nn.Module) -> nn.ModuleDict:
    """The low-rank layers over a module's weight, in the order in which they were added; empty where there are none."""
    if parametrize.is_parametrized(module, _WEIGHT):
        for part in module.parametrizations[_WEIGHT]:  # type: ignore[index,union-attr]
            if isinstance(part, LowRankLayers):
                return part.layers
    return nn.ModuleDict()


def original_name(name: str) -> str:
    """A tensor's name as it was before a layer lay over its weight: m.parametrizations.weight.original was m.weight."""
    return name.replace(f".parametrizations.{_WEIGHT}.original", f".{_WEIGHT}")


def apply_changes(parts: nn.Module, changes: Iterable[Change], where: str = "what learns") -> None:
    """Carry out declared changes in their order: on live numbers, or on a fresh model whose numbers are loaded next.

    Raises:
        ConfigError, CheckpointError: a module or layer that is not there, or one that is there already.
    """
    for change in changes:
        try:
            module = parts.get_submodule(change.module)
        except AttributeError as error:
            raise CheckpointError(f"a module {change.module!r} in {where}, to be {change.kind}", "none",
                                  "correct the change's `module`") from error
        if change.kind == "frozen":
            module.requires_grad_(False)
        elif change.kind == "added":
            _add(module, change)
        else:
            _take(module, change)


def merged(model: M) -> M:
    """A copy in which every low-rank layer is part of the weight under it; the model itself where there are none."""
    if not any(layers_of(module) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        if layers_of(module):
            _uncover(module, keep=True)
    return plain


def _add(module: nn.Module, change: Change) -> None:
    there = layers_of(module)  # with layers, the weight under them says as much, and costs no sum over them
    weight = module.parametrizations[_WEIGHT].original if there else getattr(module, _WEIGHT, None)  # type: ignore
    if not isinstance(weight, Tensor) or weight.dim() < 2:
        raise ConfigError(f"a module with a weight matrix at {change.module!r}", type(module).__name__,
                          "name a linear layer or a convolution")
    if change.layer in there:
        raise ConfigError(f"a layer over {change.module!r} that is not there yet", f"{change.layer!r}",
                          "give it another name")
    if hasattr(nn.ModuleDict, change.layer) or change.layer in vars(nn.ModuleDict()):
        raise ConfigError("a layer's name that torch gives to nothing", f"{change.layer!r}", "give it another name")
    if not there:
        parametrize.register_parametrization(module, _WEIGHT, LowRankLayers(), unsafe=True)
    layers_of(module)[change.layer] = LowRank(weight.detach(), change.rank, change.layer)


def _take(module: nn.Module, change: Change) -> None:
    layers = layers_of(module)
    if change.layer not in layers:
        names = ", ".join(layers) or "none"
        raise CheckpointError(f"a layer over {change.module!r}: {names}", f"{change.layer!r}", "correct its name")
    layer = layers.pop(change.layer)
    if change.kind == "merged":
        with torch.no_grad():
            module.parametrizations[_WEIGHT].original.add_(layer())  # type: ignore[index,union-attr]
    if not layers:
        _uncover(module, keep=False)


def _uncover(module: nn.Module, keep: bool) -> None:
    """Take the parametrisation from a module's weight; keep: with what it computed, not with the weight under it.

    Torch takes the weight from the module's class, and copies of a module share their class: this one gets its own.
    """
    kind = type(module)
    own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, own)
    parametrize.remove_parametrizations(module, _WEIGHT, leave_parametrized=keep)
