"""A sample of a log's moments with their latents: what is shown for a state that was only imagined, and the unit in
which distances between states are told. Knows perceptions by their abstract class and datasets; draws nothing.

Shapes: n moments, m states, D latent size (tokens are flattened), F pictures of C channels in one moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from steersman.core import ObservationSpec, Perception
from steersman.core.pacing import unstacked
from steersman.data import Dataset

MOST, SECONDS = 4000, 4.0
"""Moments that are encoded, at the most, and the time after which no further ones are."""
_BATCH, _PAIRS = 64, 256


class LoggedMoments:
    """Moments drawn evenly from a log, encoded until there are `most` of them or `seconds` have passed.

    states  (n, D) latents; n is at least one batch
    unit    root mean square distance between a state and the next, a model step later. Where the log has no steps,
            or nothing ever changes in them: between any two states
    steps   whether the unit is a model step

    An encoder that is slow is asked less often; the moments that come first are the same for the same seed.
    """

    def __init__(
        self, perception: Perception, dataset: Dataset, seed: int = 0, most: int = MOST, seconds: float = SECONDS
    ) -> None:
        self.dataset = dataset
        generator = torch.Generator().manual_seed(seed)
        ends = (dataset.lengths + 1).cumsum(0)
        picked = torch.randperm(int(ends[-1]), generator=generator)[:most]
        episode = torch.searchsorted(ends, picked, right=True)
        row = picked - (ends - dataset.lengths - 1)[episode]
        found, began = list[Tensor](), time.perf_counter()
        for e, r in zip(episode.split(_BATCH), row.split(_BATCH), strict=True):
            found.append(encoded(perception, dataset.frames(e, r)))
            if time.perf_counter() - began > seconds:
                break
        self.states = torch.cat(found)
        self._episode, self._row = episode[: len(self.states)], row[: len(self.states)]
        self.steps, self.unit = True, self._step(perception)
        if not self.unit > 1e-6 * float(self.states.norm(dim=1).mean()):
            apart = (self.states - self.states.roll(1, 0)).square().sum(1).mean().sqrt()
            self.steps, self.unit = False, float(apart) or 1.0

    def __len__(self) -> int:
        return len(self.states)

    def _step(self, perception: Perception) -> float:
        going = (self._row < self.dataset.lengths[self._episode]).nonzero()[:, 0][:_PAIRS]
        if not len(going):
            return 0.0
        later = [encoded(perception, self.dataset.frames(self._episode[i], self._row[i] + 1))
                 for i in going.split(_BATCH)]
        return float((torch.cat(later) - self.states[going]).square().sum(1).mean().sqrt())

    def nearest(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (m, …) -> the moments (m,) whose latents are nearest to them, and how far those are (m,)."""
        distance, index = torch.cdist(states.flatten(1), self.states).min(1)
        return index, distance

    def pictures(self, index: Tensor, image: str) -> Tensor:
        """Moments (m,) -> what the camera called `image` shows there, (m, H, W, 3) uint8."""
        frames = self.dataset.frames(self._episode[index], self._row[index])[image]
        return newest(frames, self.dataset.signature.observations[image])


@torch.inference_mode()
def encoded(perception: Perception, moments: Mapping[str, Tensor]) -> Tensor:
    """name -> (n, …) -> latents (n, D)."""
    return perception.encode({name: x[:, None] for name, x in moments.items()}).state[:, 0].flatten(1).float()


def newest(images: Tensor, spec: ObservationSpec) -> Tensor:
    """Images (…, H, W, F·C) -> the newest picture of each as people see it, (…, H, W, 3)."""
    picture = unstacked(images, spec.frames)[..., 0, :, :, :]
    return picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].expand(*picture.shape[:-1], 3)


def sized(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures (n, H, W, 3) uint8 at another size: smaller, each pixel the mean of those that it stands for; larger,
    the same pixels."""
    if pictures.shape[1:3] == (height, width):
        return pictures
    planes = pictures.permute(0, 3, 1, 2).float()
    mode = "area" if height <= pictures.shape[1] else "nearest-exact"
    shown = torch.nn.functional.interpolate(planes, (height, width), mode=mode)
    return shown.round().to(torch.uint8).permute(0, 2, 3, 1)
