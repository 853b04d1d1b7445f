"""Where it moves: what a latent attends to on the scene map should be where pixels change. Needs images, no labels.

Shapes: B windows, L steps, S rollout starts, n steps a rollout, image (H, W, C), map of M = h·w cells, row by row.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError, MismatchError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import LearningBatch, Loss
from steersman.objectives.statistics import full_precision, mean


def motion_energy(
    images: Tensor, grid: tuple[int, int], threshold: float = 0.15, shrink: int = 2, tents: bool = True
) -> Tensor:
    """How much moves in each cell at each moment: images (B, T, H, W, C) uint8 -> (B, T, h·w) float32, T >= 2.

        e_t = pool(min(relu(Δ_t - threshold), relu(Δ_{t+1} - threshold))),   Δ_t = max_c |I_t - I_{t-1}| in [0, 1]

    on images averaged over shrink × shrink pixels (a remainder at the right and lower edge is left out). What changed
    both before and after is where the mover is now; a sum would smear it over where it was and will be. The first and
    last moment have one neighbour only. Pooling with tents (linear interpolation between cell centres) makes the mean
    position of the energy linear in the mover's; with boxes it is sharper and jumps from cell to cell. Integer
    arithmetic up to the threshold: no float copy of the images.
    """
    return pooled(moving(images, threshold, shrink), grid, tents)


def moving(images: Tensor, threshold: float, shrink: int) -> Tensor:
    """The min(…) of `motion_energy` at every shrunk pixel: (B, T, H, W, C) uint8 -> (B, T, H/shrink, W/shrink)."""
    b, t, height, width, channels = images.shape
    height, width = height // shrink, width // shrink
    wide = torch.int16 if shrink**2 * 255 < 2**15 else torch.int32
    images = images[:, :, : height * shrink, : width * shrink]
    lines = images.view(b, t, height, shrink, width * shrink, channels).unbind(3)
    stripes = lines[0].to(wide)
    for line in lines[1:]:
        stripes += line
    strongest: Tensor | None = None
    for channel in stripes.view(b, t, height, width, shrink, channels).unbind(5):  # one long strided loop each: fast
        sums = channel[..., 0].clone()
        for column in channel.unbind(-1)[1:]:
            sums += column
        change = (sums[:, 1:] - sums[:, :-1]).abs_()
        strongest = change if strongest is None else torch.maximum(strongest, change)
    assert strongest is not None
    moved = strongest.float().div_(255.0 * shrink**2).sub_(threshold).clamp_(min=0)
    return torch.cat([moved[:, :1], torch.minimum(moved[:, 1:], moved[:, :-1]), moved[:, -1:]], 1)


def pooled(energy: Tensor, grid: tuple[int, int], tents: bool) -> Tensor:
    """(B, T, H, W) -> (B, T, h·w), by two matrix products."""
    pool = _tents if tents else _boxes
    with full_precision(energy):
        rows, columns = pool(energy.shape[2], grid[0], energy), pool(energy.shape[3], grid[1], energy)
        return (rows.mT @ (energy @ columns)).flatten(2)


def _tents(size: int, cells: int, like: Tensor) -> Tensor:
    """(size, cells): each place shared linearly between the two nearest cell centres."""
    place = ((torch.arange(size, device=like.device) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells, device=like.device)).abs()).clamp_min(0)


def _boxes(size: int, cells: int, like: Tensor) -> Tensor:
    """(size, cells): adaptive average pooling of one axis as a matrix, seven times faster than the pooling kernel."""
    return F.adaptive_avg_pool1d(torch.eye(size, device=like.device)[None], cells)[0]


class Motion(Objective):
    """Cross-entropy of attention logits to the motion-energy map of the same moment.

        E = weight · mean_{b,t} CE(p_{b,t}, softmax a_{b,t})
          + predicted_weight · mean_{b,s,i} CE(p_{b,s+i}, softmax q_{b,s,i})
        CE(p, q) = -Σ_m p_m log q_m,   p_{b,t} = e_{b,t} / Σ_m e_{b,t,m}

    p of tents in the first term, so that the pooled state is linear in position, of boxes in the second, so that the
    predictor reads its map sharply. Here a = batch.latent.attention (B, L+1, M): where the encoder read the state;
    q = batch.predicted.attention (B, S, n, M): where the predictor looked from states[:, :, i], so i = 0 is an encoded
    state and the others are predicted; e as in `motion_energy`. Means are over moments in which something moved, of
    every process; others say nothing. A uniform attention scores log M.

    The map M is h × w cells laid over the whole image, as perception says; `grid` need not be given.
    Defaults are those of two rooms from RGB (threshold .15, half resolution, weights 3 and 1). One map per moment: it
    suits one mover; a moving camera moves everything, and this says nothing then.

    Parts: "motion", "motion_predicted".

    Raises:
        ConfigError: no such image, a perception without a scene map, a grid that is not M cells.
        MismatchError: the perception or the world model gives no attention although its weight is not 0.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="motion"):
        """image: name of the observation ("": the only image); shrink: pixels a side averaged before comparing."""

        weight: float = 3.0
        predicted_weight: float = 1.0
        image: str = ""
        grid: tuple[int, int] | None = None
        threshold: float = 0.15
        shrink: int = 2

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Motion:
            name = signature.image(self.image)
            if context_shape is None:
                raise ConfigError(
                    "a perception with a scene map", "one without", "use SceneEncoder, or drop objectives.Motion"
                )
            height, width, _ = signature.observations[name].shape
            grid = context_shape[:2]
            if self.grid is not None and self.grid != grid:
                raise ConfigError(f"the map's grid {grid}", f"{self.grid}", "leave grid out")
            if self.shrink < 1 or min(height, width) < self.shrink * max(grid):
                raise ConfigError(
                    f"shrink from 1 to {min(height // grid[0], width // grid[1])}", f"{self.shrink}",
                    "a cell of the grid must hold a pixel of the shrunk image",
                )
            return Motion(self, name, grid)

    def __init__(self, config: Config, image: str, grid: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.image, self.grid = config, image, grid

    def forward(self, batch: LearningBatch) -> Loss:
        config = self.config
        images = batch.window.observations[self.image]
        pixels = moving(images, config.threshold, config.shrink)
        parts, total = {}, pixels.new_zeros(())
        if config.weight:
            smooth = pooled(pixels, self.grid, tents=True)
            parts["motion"] = attention_error(batch.latent.attention, smooth, "perception")
            total = total + config.weight * parts["motion"]
        if config.predicted_weight:
            steps = batch.predicted.states.shape[2] - 1
            rows = batch.starts[:, None] + torch.arange(steps, device=pixels.device)
            sharp = pooled(pixels, self.grid, tents=False)[:, rows]
            parts["motion_predicted"] = attention_error(batch.predicted.attention, sharp, "world model")
            total = total + config.predicted_weight * parts["motion_predicted"]
        return Loss(total, {name: part.detach() for name, part in parts.items()})


def attention_error(attention: Tensor | None, energy: Tensor, whose: str) -> Tensor:
    """Logits (…, M), energies (…, M) -> mean cross-entropy over the moments with any energy."""
    if attention is None or attention.shape != energy.shape:
        got = "none" if attention is None else f"{tuple(attention.shape)}"
        raise MismatchError(
            f"attention logits {tuple(energy.shape)} from the {whose}", got,
            "use one that reads a scene map of this grid, or set its weight in objectives.Motion to 0",
        )
    mass = energy.sum(-1)
    target = energy / torch.where(mass > 0, mass, 1.0)[..., None]
    errors = -(target * F.log_softmax(attention.float(), -1)).sum(-1)
    return mean(errors, (mass > 0).float())
