"""Where in a picture the state is read: how far it moves when a place is hidden (occlusion sensitivity, Zeiler & Fergus
2014). Knows perceptions by their abstract class; needs no gradient, so that any encoder can be asked.

Shapes: n moments, R rows and K columns of cells over the picture, F pictures of C channels in a moment.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from steersman.core import Perception
from steersman.core.pacing import stacked, unstacked
from steersman.data import Dataset
from steersman.evaluation.logged_moments import LoggedMoments, encoded, newest, sized
from steersman.runs.artefacts import Map, write

MOMENTS, ACROSS, SECONDS = 4, (16, 12, 8, 6, 4), 3.0
"""Moments that are shown, cells along a picture's longer side (the first that time allows), and that time."""
_BATCH, _SAMPLED, _PIXELS = 64, 128, 96


def median_picture(dataset: Dataset, image: str, seed: int = 0) -> Tensor:
    """(H, W, F·C) uint8: what is usually at each place, the median over moments of a log, in all pictures of a moment.

    A thing that moves through a scene is nowhere most of the time, and is not in it.
    """
    spec = dataset.signature.observations[image]
    generator = torch.Generator().manual_seed(seed)
    episode = torch.randint(len(dataset), (_SAMPLED,), generator=generator)
    row = (torch.rand(_SAMPLED, generator=generator) * (dataset.lengths[episode] + 1)).long()
    pictures = unstacked(dataset.frames(episode, row)[image], spec.frames)[:, 0]
    return stacked(pictures.median(0).values.expand(spec.frames, -1, -1, -1))


@torch.inference_mode()
def occlusion(
    perception: Perception, moments: Mapping[str, Tensor], image: str, background: Tensor, grid: tuple[int, int]
) -> Tensor:
    """(n, R, K): how far the state moves, |s' - s|, when the patch around each cell is replaced by `background`.

        x'_p = x_p outside the patch, background_p inside it; the patch is twice as wide as its cell

    moments     name -> (n, …); other observations than `image` stay as they are, and so do all places but the patch. It
                is replaced in all pictures of the moment at once: in one alone it would look like something that moved
    background  (H, W, F·C), see `median_picture`
    grid        (R, K)
    """
    images = moments[image]
    masks = _patches(images.shape[1], images.shape[2], grid).flatten(0, 1)
    whole, found = encoded(perception, moments), []
    for i in range(len(images)):
        pieces = []
        for mask in masks.split(_BATCH):
            hidden = torch.where(mask[..., None], background, images[i])
            others = {name: x[i].expand(len(mask), *x.shape[1:]) for name, x in moments.items()}
            pieces.append((encoded(perception, {**others, image: hidden}) - whole[i]).norm(dim=1))
        found.append(torch.cat(pieces).view(grid))
    return torch.stack(found)


def _patches(height: int, width: int, grid: tuple[int, int]) -> Tensor:
    """(R, K, H, W) bool: the patch around each cell."""
    along = []
    for size, cells in ((height, grid[0]), (width, grid[1])):
        centre = (torch.arange(cells) + 0.5) * size / cells
        along.append((torch.arange(size) + 0.5 - centre[:, None]).abs() <= max(0.5, size / cells))
    return along[0][:, None, :, None] & along[1][None, :, None, :]


def looking_map(
    run: Path, perception: Perception, dataset: Dataset, image: str, moments: LoggedMoments, *, name: str,
    order: int = 0, seconds: float = SECONDS,
) -> Path:
    """Write a few pictures of `dataset`, and over each of them where the state is read.

    moments  in whose unit changes are told, and whose dataset says what is usually where; `seconds`: about as long as
             it may take

    Raises:
        StorageError: the disk refused.
    """
    chosen = torch.linspace(0, len(dataset) - 1, min(MOMENTS, len(dataset))).long()
    shown = dataset.frames(chosen, dataset.lengths[chosen] // 2)
    spec = dataset.signature.observations[image]
    grid = _grid(perception, shown, image, seconds)
    background = median_picture(moments.dataset, image)
    change = occlusion(perception, shown, image, background, grid) / moments.unit
    cell = max(1, min(-(-max(spec.shape[:2]) // max(grid)), _PIXELS // max(grid)))
    pictures = sized(newest(shown[image], spec), grid[0] * cell, grid[1] * cell)
    sheet, values = _sheet(pictures, change, cell)
    height, width = sheet.shape[:2]
    patch = "×".join(f"{2 * size / cells:.2g}" for size, cells in zip(spec.shape[1::-1], grid[::-1], strict=True))
    together = f" in all {spec.frames} pictures of the moment at once," if spec.frames > 1 else ""
    unit = "one model step" if moments.steps else "the distance between two moments"
    return write(run, Map(
        name=name, title="Where in the picture the state is read", values=values,
        extent=(-0.5, -0.5, width - 0.5, height - 0.5), value_title=f"change of the state; 1 is as much as {unit}",
        alt="pictures, and under them the same with the places coloured whose hiding changes the state most",
        file=f"{name}.png", size=(width, height), order=order, fades=True,
        caption=f"Above: pictures {'of ' + image + ' ' if image != 'image' else ''}from {len(chosen)} episodes. Below: "
                f"how far the state moves when a patch of {patch} pixels there is replaced,{together} by the log's "
                f"median picture; at the most {float(change.max()):.2g}. What stands still in the whole log is its own "
                "median, and is never coloured.",
    ), {f"{name}.png": _png(sheet)})


def _grid(perception: Perception, shown: Mapping[str, Tensor], image: str, seconds: float) -> tuple[int, int]:
    """Rows and columns: as many as there is time for, none smaller than a pixel."""
    count, height, width = shown[image].shape[:3]
    encoded(perception, shown)  # the first time is slower
    began = time.perf_counter()
    encoded(perception, shown)
    affordable = seconds * count / max(time.perf_counter() - began, 1e-6)
    for across in (min(x, height, width) for x in ACROSS):
        side = max(height, width) / across
        grid = (max(1, round(height / side)), max(1, round(width / side)))
        if count * grid[0] * grid[1] <= affordable:
            break
    return grid


def _sheet(pictures: Tensor, change: Tensor, cell: int) -> tuple[Tensor, tuple[tuple[float | None, ...], ...]]:
    """Pictures side by side, above themselves, a cell apart: (H, W, 4), transparent between them; and the values of the
    lower ones on one grid."""
    count, rows, columns = change.shape
    high, wide = 2 * rows + 1, count * (columns + 1) - 1
    sheet = torch.zeros(high * cell, wide * cell, 4, dtype=torch.uint8)
    values = torch.full((high, wide), torch.nan)
    for i in range(count):
        left = i * (columns + 1)
        for top in (0, rows + 1):
            place = sheet[top * cell : (top + rows) * cell, left * cell : (left + columns) * cell]
            place[..., :3], place[..., 3] = pictures[i], 255
        values[rows + 1 :, left : left + columns] = change[i]
    table = tuple(tuple(None if v != v else float(f"{v:.3g}") for v in line) for line in values.tolist())
    return sheet, table


def _png(sheet: Tensor) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sheet.numpy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
