"""Something in front of the picture that moves and does not matter. Knows nothing of what is shown.

Shapes: B rows, T moments, F pictures of a moment, (H, W) pixels, C channels of one picture.
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
from steersman.perception.drawn import KEY, between, noise
from steersman.perception.views.choosing import acted_on, given, require_range, require_share, table


class Patch(View):
    """A rectangle of random tiles before the picture, with `probability`, moving steadily and turning at the edges:

        middle(τ) = fold(start + speed · τ)     fold reflects at 0 and 1;   start ~ U(0, 1) along each side
        height, width ~ U(size),   speed ~ U(-speed, speed) along each side;   τ in rows of the log

    Places along a side are shares of it; size and speed are shares of the picture's smaller side. The pictures of a
    moment, and its moments, lie as far apart in τ as the signature's pace says, so that the rectangle moves among them
    as a thing would. It is the cutout of DeVries & Taylor (2017) with a texture and a movement.

    Parameters: height, width (in shares of the smaller side; 0 where there is none), down, right (shares of the
    smaller side a row).

    Raises:
        ConfigError: no picture, no tile.
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="patch"):
        """observations: which pictures (empty: all); size (low, high) and speed as above; tiles along each side of the
        rectangle, each of one random colour."""

        observations: tuple[str, ...] = ()
        size: tuple[float, float] = (0.1, 0.3)
        speed: float = 0.06
        tiles: int = 4
        probability: float = 1.0

        def __post_init__(self) -> None:
            require_range("size", self.size, 0.0, 1.0)
            require_range("speed", (self.speed, self.speed), 0.0)
            require_share("probability", self.probability)
            if self.tiles < 1:
                raise ConfigError("at least 1 tile a side", f"{self.tiles}", "raise `tiles`")

        def build(self, signature: Signature) -> Patch:
            return Patch(self, signature)

    uniform = 7 + KEY
    parameters = ("height", "width", "down", "right")

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)

    def look(self, observation: Observation, u: Tensor) -> Looked:
        config = self.config
        there = u[:, 0] < config.probability
        sides = between(u[:, 1:3], config.size)
        speed = between(u[:, 5:7], (-config.speed, config.speed))
        rows = there.nonzero()[:, 0]  # nothing is computed for the others
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            if len(rows):
                seen[name] = x.index_put((rows,), self._covered(x[rows], spec, u[rows], sides[rows], speed[rows]))
        chosen = torch.where(there[:, None], torch.cat([sides, speed], 1), 0.0)
        return Looked(seen, table(chosen.unbind(1)))

    def _covered(self, x: Tensor, spec: ObservationSpec, u: Tensor, sides: Tensor, speed: Tensor) -> Tensor:
        """x (B, T, H, W, F·C), sides and speed (B, 2): down, right."""
        config, pace = self.config, self.shown.pace
        h, w, channels = spec.single.shape
        times = torch.arange(x.shape[1], device=u.device)[:, None] * pace.step
        times = (times - torch.arange(spec.frames, device=u.device) * pace.apart).flatten()
        within, tile = [], []
        for axis, length in enumerate((h, w)):
            side, moved = (v[:, axis] * (min(h, w) / length) for v in (sides, speed))  # now shares of this side
            place = u[:, 3 + axis, None] + moved[:, None] * times
            middle = ((place + 1).remainder(2) - 1).abs()
            points = (torch.arange(length, device=u.device) + 0.5) / length
            begins = middle[..., None] - side[:, None, None] / 2
            share = (points - begins) / side.clamp(min=1e-6)[:, None, None]  # 0 to 1 across the rectangle
            within.append((share >= 0) & (share < 1))
            tile.append((share * config.tiles).long().clamp_(0, config.tiles - 1))
        texture = noise(u[:, 7:]).integers(256, config.tiles, config.tiles, channels).to(torch.uint8)
        inside = (within[0][..., None] & within[1][:, :, None]).unflatten(1, (x.shape[1], spec.frames))
        row, moment, picture, i, j = inside.nonzero(as_tuple=True)  # a few percent: nothing is computed elsewhere
        at = moment * spec.frames + picture
        covered = x.clone()
        covered.unflatten(-1, (spec.frames, channels))[row, moment, i, j, picture] = texture[
            row, tile[0][row, at, i], tile[1][row, at, j]]
        return covered
