"""What three pictures of a film tell about a motion, as numbers that a ridge regression can use: optical flow, small
patches where most changes, and products of principal components. Arrays only; knows no log and no action.

Shapes: n transitions, m frames, S = 32 cells a side, C colours, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steersman.core.recording import Array
from steersman.data.doctor import regression as r

SIDE = 32
_NOISE = 0.1
"""Of the pictures' contrast, added to every cell: what is fainter is not called visible, though a renderer without
noise shows it. A cell is the mean of several pixels; 0.1 is as 0.05 in cells twice as large."""
_COLOURS = 2
_TOGETHER = 128
"""Frames or transitions that are worked on together: they fit into a processor's cache."""
_PLACES = 8
"""Cells of a transition around which patches are looked at: those that change most."""
_REACH = 2
_DIRECTIONS = 24
_WAVES = 64
_PARTS = 10


@dataclass(frozen=True)
class Film:
    """Frames as they are compared.

    cells   (m, C, S, S) float16: principal colours of what changes, with a little noise
    parts   (m, P) float32 principal components of the frames at half that size
    """

    cells: Array
    parts: Array


def film(fine: Array, follows: Array) -> Film:
    """fine (m, S, S, 1..4) uint8 -> Film; follows (m,) bool: frames whose predecessor is the row before."""
    generator = np.random.default_rng(0)
    contrast = float(np.median([frame.std() for frame in fine[:: max(1, len(fine) // 500)]]))
    colours = _colours(fine, follows)
    cells = np.empty((len(fine), colours.shape[1], SIDE, SIDE), np.float16)
    for start in range(0, len(fine), _TOGETHER):
        part = fine[start : start + _TOGETHER].astype(np.float32) @ colours
        part += _NOISE * contrast * generator.standard_normal(part.shape, np.float32)
        cells[start : start + _TOGETHER] = part.transpose(0, 3, 1, 2)
    return Film(cells, _components(cells))


def _colours(fine: Array, follows: Array) -> Array:
    """(colours, C) the directions in colour along which most changes from frame to frame."""
    count = fine.shape[-1]
    if count <= _COLOURS:
        return np.eye(count, dtype=np.float32)
    at = np.flatnonzero(follows)
    at = at[:: max(1, len(at) // 2000)]
    change = (fine[at].astype(np.float32) - fine[at - 1]).reshape(-1, count)
    _, vectors = np.linalg.eigh((change.T @ change).astype(np.float64))
    return np.asarray(vectors[:, ::-1][:, :_COLOURS], np.float32)


def _components(cells: Array) -> Array:
    flat = np.empty((len(cells), cells[0].size // 4), np.float32)
    for start in range(0, len(cells), _TOGETHER):
        part = cells[start : start + _TOGETHER].astype(np.float32)
        part = part[..., 0::2] + part[..., 1::2]
        flat[start : start + _TOGETHER] = (part[..., 0::2, :] + part[..., 1::2, :]).reshape(len(part), -1) / 4
    flat -= flat.mean(0)
    some = flat[:: max(1, len(flat) // 6000)]
    _, vectors = np.linalg.eigh((some.T @ some).astype(np.float64))
    return np.asarray(flat @ vectors[:, ::-1][:, : 16].astype(np.float32))


def features(film: Film, before: Array, now: Array, after: Array) -> tuple[Array, ...]:
    """Frames (n,) of each transition -> features (n, F) of what moves from `before` over `now` to `after`, in parts."""
    moved, places = [], []
    for start in range(0, len(now), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        a, m, z = (film.cells[at[some]].astype(np.float32) for at in (before, now, after))
        energy = _dot(m - a, m - a) + _dot(z - m, z - m)
        moved.append(_flow(a, m, z, energy))
        places.append(_places(m, m - a, z - m, energy))
    patch, at, weight = (np.concatenate(x) for x in zip(*places, strict=True))
    return (r.standardised(np.concatenate(moved)), r.standardised(_patches(patch, at, weight)),
            *_products(*(film.parts[at] for at in (before, now, after))))


def _dot(x: Array, y: Array) -> Array:
    """(n, C, S, S) twice -> (n, S, S)."""
    found = x[:, 0] * y[:, 0]
    for colour in range(1, x.shape[1]):
        found += x[:, colour] * y[:, colour]
    return found


def _products(a: Array, m: Array, z: Array) -> tuple[Array, ...]:
    """Principal components and their first and second differences, and products of the one with the others: what turns
    a thing one way shows with another sign where it hangs and where it stands."""
    where = r.standardised(m[:, :_PARTS])
    found = []
    for change in (z - m, z - 2 * m + a):
        moved = r.standardised(change[:, :_PARTS])
        found += [moved, r.standardised((where[:, :, None] * moved[:, None]).reshape(len(m), -1))]
    return tuple(found)


# Flow ------------------------------------------------------------------------------------------------------------


def _flow(a: Array, m: Array, z: Array, energy: Array) -> Array:
    """Displacements by least squares (Lucas & Kanade 1981) from a to m and from m to z, over the whole picture and over
    each of 4×4 parts, where something changes."""
    a, m, z = _blurred(a), _blurred(m), _blurred(z)
    weight = _blurred(energy)
    weight /= weight.max((1, 2), keepdims=True) + 1e-6
    found = []
    for first, second in ((m, z), (a, m)):
        gx, gy = _gradients(first + second)
        change = second - first
        fine = np.stack([_dot(p, q) * weight for p, q in ((gx, gx), (gy, gy), (gx, gy), (gx, change), (gy, change))])
        fine = fine.reshape(5, len(a), 4, SIDE // 4, 4, SIDE // 4).sum(5).sum(3).reshape(5, len(a), -1)
        for xx, yy, xy, xt, yt in (fine.sum(2, keepdims=True), fine):
            calm = 0.05 * (xx + yy).mean(1, keepdims=True) + 1.0
            xx, yy = xx + calm, yy + calm
            area = xx * yy - xy**2
            found += [(xy * yt - yy * xt) / area, (xy * xt - xx * yt) / area]
    return np.concatenate(found, 1)


def _gradients(twice: Array) -> tuple[Array, Array]:
    """Central differences along x and y of half of what is given."""
    gx, gy = np.zeros_like(twice), np.zeros_like(twice)
    np.subtract(twice[..., 2:], twice[..., :-2], out=gx[..., 1:-1])
    np.subtract(twice[..., 2:, :], twice[..., :-2, :], out=gy[..., 1:-1, :])
    return gx / 4, gy / 4


def _blurred(x: Array) -> Array:
    """(…, S, S) with the weights ¼, ½, ¼ along both axes; the border as it is."""
    found = x.copy()
    found[..., 1:-1, :] = (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4
    x = found.copy()
    found[..., 1:-1] = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    return found


# Patches ---------------------------------------------------------------------------------------------------------


def _places(m: Array, earlier: Array, later: Array, energy: Array) -> tuple[Array, Array, Array]:
    """Patches (n, J, 3·C·25) around the cells that change most, these cells (n, J), and their share of the change."""
    count = len(m)
    flat = energy.reshape(count, -1)
    at = np.argpartition(-flat, _PLACES, 1)[:, :_PLACES]
    weight = np.sqrt(np.take_along_axis(flat, at, 1))
    weight /= weight.sum(1, keepdims=True) + 1e-6
    shown = _cut(m, at)
    shown -= shown.mean(3, keepdims=True)
    patch = np.concatenate([shown, _cut(later, at), _cut(earlier, at)], 2)
    return patch.reshape(count, _PLACES, -1), at, weight


def _patches(patch: Array, at: Array, weight: Array) -> Array:
    """The patches of each transition, whitened, with random Fourier features, added up by how much changes there: once
    plainly, and once for each coordinate of the place."""
    generator, count = np.random.default_rng(1), len(patch)
    patch = patch.reshape(count * _PLACES, -1)
    size = np.sqrt((patch**2).mean(1, keepdims=True))
    patch /= size + 0.1 * np.median(size) + 1e-6
    some = patch[generator.permutation(len(patch))[:16_000]]
    mean = some.mean(0)
    width, vectors = np.linalg.eigh(((some - mean).T @ (some - mean) / len(some)).astype(np.float64))
    width, vectors = width[::-1][:_DIRECTIONS], vectors[:, ::-1][:, :_DIRECTIONS]
    white = (patch - mean) @ (vectors / np.sqrt(width + 0.02 * width[0] + 1e-12)).astype(np.float32)
    scale = np.repeat([0.7, 1.4], _WAVES // 2) / np.sqrt(white.shape[1])
    wave = (generator.standard_normal((white.shape[1], _WAVES)) * scale).astype(np.float32)
    phase = generator.uniform(0, 2 * np.pi, _WAVES).astype(np.float32)
    seen = np.concatenate([white, np.cos(white @ wave + phase)], 1).reshape(count, _PLACES, -1)
    middle = (SIDE - 1) / 2
    place = np.stack([np.ones(at.shape), at % SIDE / middle - 1, at // SIDE / middle - 1], 2) * weight[..., None]
    found: Array = np.matmul(place.transpose(0, 2, 1).astype(np.float32), seen).reshape(count, -1)
    return found


def _cut(x: Array, at: Array) -> Array:
    """(n, C, S, S), cells (n, J) -> (n, J, C, (2·reach + 1)²) around them; outside of the picture is 0."""
    width = SIDE + 2 * _REACH
    wide = np.pad(x, ((0, 0), (0, 0), (_REACH, _REACH), (_REACH, _REACH))).reshape(*x.shape[:2], -1)
    steps = np.arange(2 * _REACH + 1)
    near = (steps[:, None] * width + steps).reshape(-1)
    index = ((at // SIDE) * width + at % SIDE)[..., None] + near
    flat = index.reshape(len(x), 1, -1)
    found = np.take_along_axis(wide, np.broadcast_to(flat, (len(x), x.shape[1], flat.shape[2])), 2)
    return found.reshape(*x.shape[:2], *index.shape[1:]).transpose(0, 2, 1, 3)
