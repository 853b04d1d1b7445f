"""A field on a periodic domain, seen from another origin. Knows no equation.

Shapes: B rows, T moments, (X, [Y, [Z]]) points of the grid, C quantities.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import whole
from steersman.perception.views.choosing import acted_on, given, table


class Roll(View):
    """x'(p) = x(p - shift) along every periodic axis, shift uniform over its points: exact, and a symmetry of every
    equation whose coefficients do not depend on place.

    Parameters: shift.0, shift.1, …: along each axis, in points; 0 along axes that are not periodic.

    Raises:
        ConfigError: no field, none with a periodic axis, fields of different grids.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="roll"):
        """observations: which fields (empty: all, rolled alike)."""

        observations: tuple[str, ...] = ()

        def build(self, signature: Signature) -> Roll:
            return Roll(self, signature)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.shown = signature
        self.specs = acted_on(signature, ("field",), config.observations)
        forms = {(spec.grid, spec.periodic) for spec in self.specs.values()}
        self.grid, self.periodic = next(iter(forms))
        if len(forms) != 1 or not any(self.periodic):
            raise ConfigError("fields of one grid with a periodic axis", f"{sorted(forms)} (points, periodic)",
                              "say in the log's signature which axes are periodic, or use SpaceCrop")
        self.uniform = len(self.grid)
        self.parameters = tuple(f"shift.{axis}" for axis in range(len(self.grid)))

    def look(self, observation: Observation, u: Tensor) -> Looked:
        shifts = [whole(u[:, axis], n) if wraps else torch.zeros(len(u), dtype=torch.int64, device=u.device)
                  for axis, (n, wraps) in enumerate(zip(self.grid, self.periodic, strict=True))]
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            for axis, (shift, n) in enumerate(zip(shifts, self.grid, strict=True)):
                if self.periodic[axis]:
                    points = (torch.arange(n, device=u.device) - shift[:, None]) % n
                    form = [1] * x.dim()
                    form[0], form[2 + axis] = len(u), n
                    x = x.take_along_dim(points.view(form), 2 + axis)
            seen[name] = x
        return Looked(seen, table(shifts))
