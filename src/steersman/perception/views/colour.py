"""A picture in another light: brightness, contrast, saturation, hue, grey. Knows nothing of what it shows.

Shapes: B rows, T moments, F pictures of a moment, (H, W) pixels, C channels of one picture.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import between
from steersman.perception.views.choosing import acted_on, given, require_range, require_share, table
from steersman.perception.views.planes import images, planes

_LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = torch.tensor([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], dtype=torch.float64)
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


class Colour(View):
    """x' = M x + m, one 3 × 3 matrix and one shift for a row's pictures, cut off at 0 and 255 once, at the end:

        brightness b   x ← b x
        contrast c     x ← c x + (1 - c) · mean luma of the row's moments, after brightness
        saturation s   x ← s x + (1 - s) · luma x,   luma = .299 R + .587 G + .114 B
        hue h          chroma (I, Q) turned by 2π h at constant luma
        grey           x ← luma x
        tint τ         x_c ← τ_c x_c, the light's own colour

    The order is fixed, and hue is turned in YIQ, where it is linear, so that all of it is one product. (torchvision
    draws the order, turns hue in HSV and cuts off after each; the views are of the same strength, not the same pixels.)
    With one channel there are brightness and contrast only. Pictures that are stacked in one moment are coloured alike,
    each by itself; the mean is over all of them.

    Parameters: brightness, contrast, saturation (factors), hue (turns, -½ to ½), grey (1 where grey), and with a tint
    its three factors. Where colours are left alone they are 1, 1, 1, 0, 0 and 1, 1, 1.

    Raises:
        ConfigError: no picture; saturation, hue, grey or tint for pictures that have not three channels.
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="colour"):
        """Factors are drawn from (1 - x, 1 + x), hue from (-x, x); with `probability` at all; grey: probability.
        Defaults: those of BYOL and VICReg (Grill et al. 2020), which have no tint; hue .5 is any hue."""

        observations: tuple[str, ...] = ()
        brightness: float = 0.4
        contrast: float = 0.4
        saturation: float = 0.2
        hue: float = 0.1
        probability: float = 0.8
        grey: float = 0.2
        tint: float = 0.0

        def __post_init__(self) -> None:
            for name in ("brightness", "contrast", "saturation", "probability", "grey", "tint"):
                require_share(name, getattr(self, name))
            require_range("hue", (self.hue, self.hue), 0.0, 0.5)

        def build(self, signature: Signature) -> Colour:
            return Colour(self, signature)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)
        self.uniform = 9 if config.tint else 6
        self.parameters = ("brightness", "contrast", "saturation", "hue", "grey")
        if config.tint:
            self.parameters += ("tint.red", "tint.green", "tint.blue")
        coloured = config.saturation or config.hue or config.grey or config.tint
        for name, spec in self.specs.items():
            channels = spec.single.shape[2]
            if channels not in ((3,) if coloured else (1, 3)):
                raise ConfigError(
                    f"pictures of {'3 channels' if coloured else '1 or 3 channels'} for colours",
                    f"{name!r} with {channels}",
                    "set saturation, hue, grey and tint to 0" if channels == 1 else "use other views of this picture",
                )

    def look(self, observation: Observation, u: Tensor) -> Looked:
        config = self.config
        jittered = u[:, 4] < config.probability
        ranges = [(1 - x, 1 + x) for x in (config.brightness, config.contrast, config.saturation)]
        factors = [torch.where(jittered, between(u[:, i], bounds), 1.0) for i, bounds in enumerate(ranges)]
        hue = torch.where(jittered, between(u[:, 3], (-config.hue, config.hue)), 0.0)
        grey = u[:, 5] < config.grey
        brightness, contrast, saturation = factors
        matrix = _matrix(torch.where(grey, 0.0, saturation), hue)
        tint = None
        if config.tint:
            tint = torch.where(jittered[:, None], between(u[:, 6:], (1 - config.tint, 1 + config.tint)), 1.0)
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = planes(given(observation, name, spec))
            pictures = x.view(len(x), -1, spec.single.shape[2], *x.shape[3:])  # those of a moment one after the other
            seen[name] = images(_coloured(pictures, brightness, contrast, matrix, tint).view(x.shape))
        tints = [] if tint is None else list(tint.unbind(1))
        return Looked(seen, table([brightness, contrast, saturation, hue, grey, *tints]))


def _matrix(saturation: Tensor, hue: Tensor) -> Tensor:
    """Saturation and hue (B,) as one matrix (B, 3, 3) that keeps luma: from YIQ · diag(1, s R(h)) · to YIQ."""
    cos, sin = (saturation * f(2 * math.pi * hue) for f in (torch.cos, torch.sin))
    to, back = _TO_YIQ.to(hue), _FROM_YIQ.to(hue)
    i, q = (back[:, n, None] * to[None, n] for n in (1, 2))  # what I alone, and Q alone, put into each colour
    turned, crossed = i + q, back[:, 2, None] * to[None, 1] - back[:, 1, None] * to[None, 2]
    luma = back[:, 0, None] * to[None, 0]
    return luma + cos[:, None, None] * turned + sin[:, None, None] * crossed


def _coloured(x: Tensor, brightness: Tensor, contrast: Tensor, matrix: Tensor, tint: Tensor | None) -> Tensor:
    """(B, T·F, C, H, W) -> the same, by sums of planes (a batched product need not give a row the same bits)."""
    count = x[0, :, 0].numel()
    means = brightness[:, None] * (x.sum(4).double().sum((1, 3)) / count).float()  # whole numbers: exact in any order
    factor = (brightness * contrast)[:, None]
    if x.shape[2] == 1:
        return x * factor.view(-1, 1, 1, 1, 1) + ((1 - contrast)[:, None] * means).view(-1, 1, 1, 1, 1)
    luma = sum(share * means[:, c] for c, share in enumerate(_LUMA))
    shift = ((1 - contrast) * luma)[:, None].expand(-1, 3)  # luma keeps to itself under the matrix
    matrix = matrix * factor[..., None]
    if tint is not None:
        shift, matrix = tint * shift, tint[..., None] * matrix
    shift, weights = shift.reshape(-1, 3, 1, 1, 1), matrix.view(len(x), 3, 3, 1, 1, 1)
    out = torch.empty_like(x)
    for to in range(3):
        torch.addcmul(shift[:, to], x[:, :, 0], weights[:, to, 0], out=out[:, :, to])
        for source in (1, 2):
            out[:, :, to].addcmul_(x[:, :, source], weights[:, to, source])
    return out
