"""Views a second of 64 × 64 pictures, and masks a second: whole batches against a loop over rows, and torchvision's v2
where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.contest import Contender, contest
from benchmarks.peers import torchvision
from benchmarks.tables import Table
from steersman.core import ActionSpec, ObservationSpec, Signature
from steersman.core.looking import Masks, View
from steersman.perception import masks, views

PIXELS, BATCH, FEW = 64, 128, 16
GRID = (14, 14)
BAR = 1.0


def run(quick: bool) -> list[Table]:
    return [_views(quick), _masks(quick)]


def _views(quick: bool) -> Table:
    """Bar: all four together at least as fast as the fastest other way."""
    signature = Signature({"camera": ObservationSpec("image", (PIXELS, PIXELS, 3))}, ActionSpec("none"))
    crop, flip, colour, blur = (
        views.ResizedCrop.Config(), views.Flip.Config(), views.Colour.Config(), views.Blur.Config())
    configs = {
        "crop": crop, "flip": flip, "colour": colour, "blur": blur, "rotation": views.Rotation.Config(),
        "noise": views.Noise.Config(), "all four": views.Chain.Config(views=(crop, flip, colour, blur)),
    }
    pictures = torch.randint(0, 256, (BATCH, 1, PIXELS, PIXELS, 3), generator=_generator(), dtype=torch.uint8)
    theirs = torchvision.views(PIXELS) if importlib.util.find_spec("torchvision") else {}
    contenders = []
    for name, config in configs.items():
        view = config.build(signature)
        contenders += [Contender(f"{name}, steersman", _whole(view, pictures), BATCH),
                       Contender(f"{name}, row by row", _by_rows(view, pictures[:FEW]), FEW)]
        if name in theirs:
            each = pictures[:FEW, 0].permute(0, 3, 1, 2).contiguous()
            contenders.append(Contender(f"{name}, torchvision", _each(theirs[name], each), FEW))
    timings = contest(contenders, 3 if quick else 9)
    rows = []
    for name in configs:
        rates = {who: timings[f"{name}, {who}"].rate for who in ("steersman", "row by row", "torchvision")
                 if f"{name}, {who}" in timings}
        rows.append({"view": name, **{f"{who}, views/s": rate for who, rate in rates.items()},
                     "× the fastest other": rates["steersman"] / max(r for w, r in rates.items() if w != "steersman")})
    notes = [f"{BATCH} pictures at once. All four: crop, flip, colour, blur, in this order."]
    if not theirs:
        notes.append("torchvision is not installed: the loop over rows stands alone.")
    return Table(f"Views of {PIXELS} × {PIXELS} pictures", rows, notes,
                 {"all four against the fastest other": (float(str(rows[-1]["× the fastest other"])), BAR)})


def _masks(quick: bool) -> Table:
    configs = {"multi-block": masks.MultiBlock.Config(), "single block": masks.SingleBlock.Config(),
               "random": masks.Random.Config(), "raster": masks.Raster.Config()}
    timings = contest([Contender(name, _drawn(config.build()), BATCH) for name, config in configs.items()],
                      3 if quick else 9)
    rows = [{"masks": name, "rows/s": timing.rate, "range, s": timing.spread} for name, timing in timings.items()]
    return Table(f"Masks of {GRID[0]} × {GRID[1]} patches, {BATCH} rows at once", rows)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _whole(view: View, pictures: Tensor) -> Callable[[], Callable[[], object]]:
    u = torch.rand(len(pictures), view.uniform, generator=_generator())
    return lambda: lambda: view.look({"camera": pictures}, u)


def _by_rows(view: View, pictures: Tensor) -> Callable[[], Callable[[], object]]:
    u = torch.rand(len(pictures), view.uniform, generator=_generator())
    return lambda: lambda: [view.look({"camera": pictures[row : row + 1]}, u[row : row + 1]) for row in range(len(u))]


def _each(transform: Callable[[Tensor], Tensor], pictures: Tensor) -> Callable[[], Callable[[], object]]:
    return lambda: lambda: [transform(picture) for picture in pictures]


def _drawn(made: Masks) -> Callable[[], Callable[[], object]]:
    shared, own = made.uniform(GRID)
    u, together = torch.rand(BATCH, own, generator=_generator()), torch.rand(shared, generator=_generator())
    return lambda: lambda: made.draw(GRID, together, u)
