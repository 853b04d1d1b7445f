"""Keypoints: a picture, or a window of it, becomes a slot for each of a few things: where it is, whether it is seen.

Knows nothing of what the picture shows. Shapes: B episodes, T moments, (H, W) pixels, N slots, (h, w) the map's places.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Latent, MismatchError, Observation, Perception, Signature, Task, register
from steersman.nn.convolution import image_of

_GAIN = 10.0  # maps are so much steeper than what the convolution says: a slot is then sure of one thing early


class KeypointEncoder(Perception):
    """Slots (x, y, seen) from an image, wherever in the scene it was taken.

        m = 10 conv(image/255), (N, h, w);   w_k = exp m_k;   (x, y)_k = Σ w_k · place / Σ w_k
        seen_k = min(1, Σ w_k / typical_k)

    Places are those of the whole scene, x to the right and y up in [-1, 1]: the image is a window of a scene of `scene`
    pixels a side, whose upper left corner (row and column, in pixels) the observation `corner` tells. Without `corner`
    the image is the scene. Σ w_k is how much of thing k is in sight: `typical_k`, its median in a sample that shows
    all of the scene, is found by `calibrate`. A slot counts as measured where `seen` exceeds a half.

    image, corner  names of the observations; ""  the only image, and no corner
    scene          pixels of the whole scene's side; 0: the image is the scene
    slots          N
    width          of the convolution, 5×5 with a stride of 2, then 3×3

    Trained by `objectives.place_variance` it finds things that move each for itself, without a label. Source: spatial
    soft arg-max of Finn et al. 2016; weights that are not normalised, so that what is not there is told, are ours.

    Raises:
        ConfigError: no such image or corner, or sizes that are not positive.
        MismatchError: an observation that lacks the corner.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="keypoints"):
        """As `KeypointEncoder`."""

        image: str = ""
        corner: str = ""
        scene: int = 0
        slots: int = 4
        width: int = 12

        def __post_init__(self) -> None:
            if min(self.slots, self.width) < 1 or self.scene < 0:
                raise ConfigError("slots and width of at least 1, and a scene of at least 0", f"{self}",
                                  "correct the perception's configuration")

        def build(self, signature: Signature) -> KeypointEncoder:
            return KeypointEncoder(self, signature)

    latent_shape: tuple[int, ...] = ()
    typical: Tensor

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        images = [name for name, spec in signature.observations.items() if spec.kind == "image"]
        self.image = config.image or (images[0] if len(images) == 1 else "")
        if self.image not in images or (config.corner and config.corner not in signature.observations):
            raise ConfigError(f"an image {config.image!r} and, if named, the corner {config.corner!r}",
                              f"{sorted(signature.observations)}", "name observations of the world")
        shape = signature.observations[self.image].shape
        self.config, self.shape = config, shape
        self.latent_shape = (config.slots, 3)
        self.conv = nn.Sequential(nn.Conv2d(shape[-1], config.width, 5, 2, padding=2, bias=False), nn.ReLU(),
                                  nn.Conv2d(config.width, config.slots, 3, padding=1, bias=False))
        self.register_buffer("typical", torch.ones(config.slots))
        self.register_buffer("order", torch.arange(config.slots))
        self.order: Tensor

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        place, mass = self.found(observation)
        seen = (mass / self.typical).clamp(max=1)
        return Latent(torch.cat([place, seen[..., None]], -1)[..., self.order, :])

    def found(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Places (B, T, N, 2) and how much of each is in sight, (B, T, N), in no unit."""
        image = image_of(observation, self.image, (*observation[self.image].shape[-3:-1], self.shape[-1]))
        height, width = image.shape[-3:-1]
        pixels = image.flatten(0, -4).permute(0, 3, 1, 2).to(self.typical) / 255
        weight = (_GAIN * self.conv(pixels)).clamp(max=20).exp()
        scene = self.config.scene or max(height, width)
        rows, columns = (2 * torch.arange(n, device=weight.device) for n in weight.shape[2:])
        total = weight.sum((2, 3))
        row, column = ((weight.sum(axis) * along).sum(-1) / total for axis, along in ((3, rows), (2, columns)))
        row, column, total = (x.unflatten(0, image.shape[:-3]) for x in (row, column, total))
        if self.config.corner:
            if self.config.corner not in observation:
                raise MismatchError(f"where the window lies, {self.config.corner!r}", f"{sorted(observation)}",
                                    "hand its corner in beside the picture")
            corner = observation[self.config.corner].to(row)[..., None, :]
            row, column = row + corner[..., 0], column + corner[..., 1]
        return torch.stack([(column + 0.5) / scene * 2 - 1, 1 - (row + 0.5) / scene * 2], -1), total

    @torch.no_grad()
    def calibrate(self, observation: Observation) -> None:
        """How much of a thing is in sight where all of it is: from pictures (n, H, W, C) of the whole scene."""
        self.typical.copy_(self.found(observation)[1].flatten(0, -2).median(0).values)

    @torch.no_grad()
    def redraw(self, places: Tensor, alike: float = 0.9, narrow: float = 0.35) -> int:
        """Slots that follow nothing of their own begin anew, with maps drawn afresh -> how many: of places (n, N, 2),
        those whose deviation is below `narrow`, or that are correlated above `alike` on both axes with an earlier
        slot's."""
        a = places.double() - places.double().mean(0)
        still = places.double().std(0).amin(-1) < narrow
        a = a / a.norm(dim=0).clamp(min=1e-9)
        likeness = torch.einsum("nkd,nmd->kmd", a, a).amin(-1).tril(-1)
        twice = ((likeness > alike).any(1) | still).nonzero().flatten()
        maps = self.conv[-1]
        assert isinstance(maps, nn.Conv2d)
        bound = 1 / (maps.in_channels * maps.kernel_size[0] ** 2) ** 0.5
        maps.weight[twice] = maps.weight[twice].uniform_(-bound, bound)
        return len(twice)

    @torch.no_grad()
    def arrange(self, places: Tensor, truth: Tensor) -> Tensor:
        """Put the slots into the order of things whose places are known: places (n, N, 2) found for truth (n, N, 2).

        -> (N,) the correlation of each thing's place with its slot's, the mean over both axes. The labels say which
        slot is which, and nothing else.
        """
        a, b = (x.double() - x.double().mean(0) for x in (places, truth))
        a, b = a / a.norm(dim=0).clamp(min=1e-9), b / b.norm(dim=0).clamp(min=1e-9)
        likeness = torch.einsum("nkd,nmd->mk", a, b) / places.shape[-1]  # thing m, slot k
        order, free = torch.zeros(len(likeness), dtype=torch.long), likeness.clone()
        for _ in range(len(likeness)):  # the likeliest pair first
            thing, slot = divmod(int(free.argmax()), free.shape[1])
            order[thing] = slot
            free[thing], free[:, slot] = -2, -2
        self.order.copy_(self.order[order])
        return likeness[torch.arange(len(order)), order].float()
