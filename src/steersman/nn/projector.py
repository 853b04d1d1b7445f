"""A projector: from features to a latent, as published models have it. Reads the layouts in which it is stored.

Shapes: N rows, W features, U hidden units, D latent size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.errors import CheckpointError, ConfigError
from steersman.nn.batch_norm import BatchNorm
from steersman.nn.weights import WeightsFile


class ProjectorForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """features W and size D; hidden units U, or 0 for one linear layer; norm after the first layer."""

    features: int
    size: int
    hidden: int = 0
    norm: Literal["batch", "layer", "none"] = "batch"

    def __post_init__(self) -> None:
        if min(self.features, self.size) < 1 or self.hidden < 0:
            raise ConfigError("positive sizes of a projector", f"{self}", "correct them")


class Projector(nn.Module):
    """(N, W) -> (N, D): W₂ gelu(norm(W₁ x)), or norm(W₁ x) without hidden units."""

    def __init__(self, form: ProjectorForm) -> None:
        super().__init__()
        first = form.hidden or form.size
        self.first = nn.Linear(form.features, first)
        norms: dict[str, nn.Module | None] = {"none": None}
        if form.norm == "batch":
            norms["batch"] = BatchNorm(first)
        elif form.norm == "layer":
            norms["layer"] = nn.LayerNorm(first)
        self.norm = norms[form.norm]
        self.second = nn.Linear(first, form.size) if form.hidden else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.second is None else self.second(F.gelu(x))


@dataclass(frozen=True)
class FoundProjector:
    """A projector in a file: names, theirs -> ours."""

    form: ProjectorForm
    file: WeightsFile
    names: Mapping[str, str]

    def state(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What `Projector(form).load_state_dict` takes, of all tensors of the file; a missing bias is 0.

        Raises:
            CheckpointError: a tensor that is missing or of another shape.
        """
        with torch.device("meta"):
            wanted = Projector(self.form).state_dict()
        state = {ours: given[theirs] for theirs, ours in self.names.items()}
        for name, x in wanted.items():
            if name not in state and name.endswith(".bias") and name.replace("bias", "weight") in state:
                state[name] = torch.zeros(x.shape)
            if name not in state or state[name].shape != x.shape:
                got = f"{tuple(state[name].shape)}" if name in state else "nothing"
                raise CheckpointError(f"the projector's {name} of shape {tuple(x.shape)} in {self.file.path.name}", got,
                                      "get the whole file, unchanged")
        return state


_NORM = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "variance"}


def projector_in(file: WeightsFile, prefix: str) -> FoundProjector | None:
    """The projector whose names begin with `prefix` ("projector."), stored as a sequence of layers, linear layer,
    norm, activation, linear layer (stable-worldmodel: `net.`, lightly: `layers.`, or none). None: there is none.

    Raises:
        CheckpointError: other layers.
    """
    shapes = {name: x.shape for name, x in file.header.items() if name.startswith(prefix)}
    stems = {name.rpartition(".")[0] for name in shapes}
    if not stems:
        return None
    numbered = sorted((int(stem.rpartition(".")[2]), stem) for stem in stems if stem.rpartition(".")[2].isdigit())
    linear = [stem for _, stem in numbered if len(shapes.get(f"{stem}.weight", ())) == 2]
    norms = [stem for _, stem in numbered if len(shapes.get(f"{stem}.weight", ())) == 1]
    if len(numbered) != len(stems) or len(linear) + len(norms) != len(stems) or not 1 <= len(linear) <= 2 \
            or len(norms) > 1 or numbered[0][1] != linear[0]:
        raise CheckpointError(f"a projector of one or two linear layers with a norm between them, {prefix}…",
                              ", ".join(sorted(shapes)), "no other projector is read")
    size, features = shapes[f"{linear[0]}.weight"]
    norm: Literal["batch", "layer", "none"] = "none"
    if norms:
        norm = "batch" if f"{norms[0]}.running_mean" in shapes else "layer"
    form = ProjectorForm(
        features=features, size=shapes[f"{linear[-1]}.weight"][0], hidden=size if len(linear) == 2 else 0, norm=norm)
    ours = dict(zip(linear, ("first", "second"), strict=False)) | dict.fromkeys(norms, "norm")
    names = {name: f"{ours[stem]}.{_NORM[last]}" for name in shapes
             for stem, _, last in [name.rpartition(".")] if last in _NORM}
    return FoundProjector(form, file, names)
