"""A part of a field's grid, at the grid's own spacing. Knows no equation.

Shapes: B rows, T moments, (X, [Y, [Z]]) points of the grid, C quantities.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import ObservationSpec, Signature
from steersman.core.types import Observation
from steersman.perception.drawn import whole
from steersman.perception.views.choosing import acted_on, given, table


class SpaceCrop(View):
    """`size` points along each axis from a random one on; nothing is resampled, so that the physics stays as it was.

    Along a periodic axis the part may begin anywhere and reach over the end; along others it lies inside. What is shown
    (`shown`) has that smaller grid and extent, and an axis of which a part is missing is not periodic any more: build
    encoders for it.

    Parameters: first.0, first.1, …: the first point along each axis, in points.

    Raises:
        ConfigError: no field, fields on different grids, a part larger than the grid or of another number of axes.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="space-crop"):
        """observations: which fields (empty: all, at the same place); size: points along each axis that are kept."""

        observations: tuple[str, ...] = ()
        size: tuple[int, ...]

        def build(self, signature: Signature) -> SpaceCrop:
            return SpaceCrop(self, signature)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.size = config.size
        self.specs = acted_on(signature, ("field",), config.observations)
        forms = {(spec.grid, spec.periodic or (False,) * len(spec.grid)) for spec in self.specs.values()}
        if len(forms) != 1:
            raise ConfigError("fields on one grid", f"{sorted(forms)}", "name fields of one grid in `observations`")
        self.grid, self.periodic = forms.pop()
        if len(self.size) != len(self.grid) or not all(1 <= n <= m for n, m in zip(self.size, self.grid, strict=True)):
            raise ConfigError(f"a size of at most {self.grid} points", f"{self.size}", "crop to fewer points")
        self.uniform = len(self.grid)
        self.parameters = tuple(f"first.{axis}" for axis in range(len(self.grid)))
        cut = {name: self._cut(spec) for name, spec in self.specs.items()}
        self.shown = msgspec.structs.replace(signature, observations={**signature.observations, **cut})

    def look(self, observation: Observation, u: Tensor) -> Looked:
        places = [n if wraps else n - size + 1
                  for n, size, wraps in zip(self.grid, self.size, self.periodic, strict=True)]
        first = [whole(u[:, axis], count) for axis, count in enumerate(places)]
        index: list[Tensor] = []
        for axis, (start, n, size) in enumerate(zip(first, self.grid, self.size, strict=True)):
            points = (start[:, None] + torch.arange(size, device=u.device)) % n
            form = [len(u), 1, *[1] * len(self.grid)]
            form[2 + axis] = size
            index.append(points.view(form))
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            moments = torch.arange(x.shape[1], device=u.device).view(1, -1, *[1] * len(self.grid))
            rows = torch.arange(len(u), device=u.device).view(-1, 1, *[1] * len(self.grid))
            seen[name] = x[(rows, moments, *index)]
        return Looked(seen, table(first))

    def _cut(self, spec: ObservationSpec) -> ObservationSpec:
        shares = [size / n for size, n in zip(self.size, self.grid, strict=True)]
        periodic = tuple(wraps and share == 1 for wraps, share in zip(self.periodic, shares, strict=True))
        extent = tuple(length * share for length, share in zip(spec.extent, shares, strict=bool(spec.extent)))
        return msgspec.structs.replace(
            spec, shape=(*self.size, spec.shape[-1]), extent=extent, periodic=periodic if spec.periodic else ())
