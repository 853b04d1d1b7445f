"""Scene encoder: an image becomes a state (what moves) and a map of the scene (what stays).

The state is pooled from one place of the picture that the encoder itself finds (a saliency map), together with
where that place is. The map is drawn by a stem of its own; a predictor reads it near the state. Knows nothing of
what the picture shows.

Shapes: B batch, T steps, H×W pixels, M = h·w map entries, D state size, C map width.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Latent, Observation, Perception, Signature, Task, register


def position_codes(h: int, w: int, size: int, finest: float) -> Tensor:
    """Sin-cos codes of an h×w grid, (h*w, size); from a quarter of a wave per side up to `finest` waves per side."""
    quarter = size // 4
    frequency = torch.logspace(math.log10(0.25), math.log10(finest), quarter) * 2 * math.pi
    y = (torch.arange(h) + 0.5)[:, None] / h * frequency
    x = (torch.arange(w) + 0.5)[:, None] / w * frequency
    rows = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(h, w, -1)
    columns = torch.cat([x.sin(), x.cos()], 1)[None].expand(h, w, -1)
    return torch.cat([rows, columns], -1).reshape(h * w, -1)


class SceneEncoder(Perception):
    """State and scene map from one image.

    Features F = trunk(image), (h, w, width); saliency a = softmax(v·F) over the h·w places;
    state = MLP([V Σ a F, Σ a P]) with sin-cos codes P; map = draw(stem(image) + U P), (h·w, C).

    An objective on pixels (objectives.Motion) may teach `attention`, the saliency's logits. Few features V Σ a F keep
    what repeats from cell to cell out of the state, and codes of long waves keep distance in latent space like
    distance in the picture up to a quarter of it (LOG.md).

    Errors: ConfigError if the signature has no such image, or its sides are no multiple of `patch`.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="scene"):
        """Sizes, and where the picture is.

        image     name of the observation
        patch     pixels per grid cell
        width     channels of the trunk
        features  of what is at the salient place that enter the state
        hidden    width of the state's MLP
        codes     size of the position codes; `finest`: their shortest wave, in waves per side
        state     D
        map_width C
        """

        image: str = "image"
        patch: int = 4
        width: int = 16
        features: int = 1
        hidden: int = 128
        codes: int = 32
        finest: float = 1.5
        state: int = 16
        map_width: int = 64

        def build(self, signature: Signature) -> SceneEncoder:
            return SceneEncoder(self, signature)

    latent_shape: tuple[int, ...] = ()
    context_shape: tuple[int, int, int] | None = None

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        spec = signature.observations.get(config.image)
        if spec is None or spec.kind != "image":
            raise ConfigError(
                f"an image observation named {config.image!r}", f"{sorted(signature.observations)}",
                "set perception.image to the name of an image, or choose a vector encoder",
            )
        height, width, channels = spec.shape
        if height % config.patch or width % config.patch:
            raise ConfigError(
                f"image sides that are multiples of {config.patch}", f"{height}×{width}", "resize or change patch"
            )
        self.config = config
        self.grid = (height // config.patch, width // config.patch)
        self.latent_shape, self.context_shape = (config.state,), (*self.grid, config.map_width)
        c, p = config.width, config.patch
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, c, 2 * p, p, padding=p // 2), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU()
        )
        self.saliency = nn.Linear(c, 1)
        self.what = nn.Linear(c, config.features)
        self.to_state = nn.Sequential(
            nn.Linear(config.features + config.codes, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.state)
        )
        m = config.map_width
        self.stem = nn.Conv2d(channels, m, p, p)
        self.place = nn.Linear(config.codes, m)
        self.draw = nn.Sequential(
            nn.ReLU(), nn.Conv2d(m, m, 3, padding=1), nn.ReLU(), nn.Conv2d(m, m, 3, padding=1)
        )
        self.register_buffer("codes", position_codes(*self.grid, config.codes, config.finest), persistent=False)
        self.to(memory_format=torch.channels_last)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        image = observation[self.config.image]
        b, t = image.shape[:2]
        features = self.trunk(self._pixels(image))
        places = features.permute(0, 2, 3, 1).flatten(1, 2)  # (B*T, M, width), a view of channels-last memory
        logits = self.saliency(places)[..., 0]  # (B*T, M)
        weight = logits.float().softmax(-1).to(places.dtype)
        what = self.what(torch.bmm(weight[:, None], places)[:, 0])
        where = weight @ self.codes.to(weight.dtype)
        state = self.to_state(torch.cat([what, where], -1))
        return Latent(state.view(b, t, -1), attention=logits.view(b, t, -1))

    def survey(self, observation: Observation) -> Tensor:
        image = observation[self.config.image]
        b, t = image.shape[:2]
        seen = self.stem(self._pixels(image))
        place = self.place(self.codes).to(seen.dtype).T.unflatten(1, self.grid)
        scene = self.draw(seen + place).permute(0, 2, 3, 1)
        return scene.reshape(b, t, -1, self.config.map_width)

    def _pixels(self, image: Tensor) -> Tensor:
        """(B, T, H, W, C) uint8 -> (B*T, C, H, W) in channels-last memory, about [-1, 1]."""
        dtype = next(self.trunk.parameters()).dtype
        if torch.is_autocast_enabled(image.device.type):
            dtype = torch.get_autocast_dtype(image.device.type)
        return image.flatten(0, 1).to(dtype).div_(127.5).sub_(1).permute(0, 3, 1, 2)
