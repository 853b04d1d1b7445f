"""Tiles are found where pictures are drawn in tiles, with their size and place, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import tiled_walk as walk
import torch

from steersman.data import lattice_for
from steersman.data.lattice import Lattice, lattice_of


def drawn(kinds, side, tile, margin, count=40, seed=0):
    """Pictures put together from some random tiles, which have a dark rim as things on boards have."""
    g = np.random.default_rng(seed)
    tiles = g.integers(60, 256, (kinds, tile, tile, 3), dtype=np.uint8) // 32 * 32
    tiles[:, 0] = tiles[:, :, 0] = 0
    inside = tiles[g.integers(kinds, size=(count, side, side))].transpose(0, 1, 3, 2, 4, 5)
    return np.pad(inside.reshape(count, side * tile, side * tile, 3),
                  ((0, 0), (margin[0], 3), (margin[1], 3), (0, 0)))


def test_a_log_of_tiles_has_their_size_and_the_margin(tmp_path):
    assert lattice_for(walk.record(tmp_path / "log")) == Lattice(walk.TILE, (walk.OFFSET, walk.OFFSET))


@pytest.mark.parametrize(("tile", "margin"), [(7, (0, 0)), (10, (2, 4)), (8, (3, 0))])
def test_board_like_pictures_have_theirs(tile, margin):
    walls = drawn(2, 6, tile, margin)
    walls[:, margin[0] : -3, margin[1] : -3] = np.where(
        walls[:, margin[0] : -3, margin[1] : -3] > 0, 200, 0).astype(np.uint8)
    assert lattice_of(walls) == Lattice(tile, margin)


def test_noise_a_moving_disk_and_a_gradient_have_none():
    g = np.random.default_rng(0)
    noise = g.integers(0, 256, (30, 48, 48, 3), dtype=np.uint8)
    assert lattice_of(noise) is None
    rows, columns = np.mgrid[:48, :48]
    disk = np.stack([((rows - y) ** 2 + (columns - x) ** 2 < 30) for y, x in g.uniform(6, 42, (40, 2))])
    disks = np.repeat(np.uint8(255) * disk[..., None].astype(np.uint8), 3, -1)
    disks[:, ::12] = 90  # lines that stand still behind it
    disks[:, :, ::12] = 90
    assert lattice_of(disks) is None
    slope = np.broadcast_to((rows + columns)[..., None].astype(np.uint8), (30, 48, 48, 3))
    assert lattice_of(slope) is None


def test_pictures_too_small_or_too_few_have_none():
    assert lattice_of(drawn(2, 6, 7, (0, 0), count=1)) is None
    assert lattice_of(np.zeros((9, 12, 12, 3), np.uint8)) is None


def test_a_log_without_pictures_has_none(tmp_path):
    from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
    from steersman.data import CacheWriter, Dataset

    signature = Signature({"state": ObservationSpec("vector", (2,))}, ActionSpec("discrete", choices=2))
    with CacheWriter(tmp_path / "log", signature, origin="none") as writer:
        writer.append([Episode({"state": torch.zeros(4, 2)}, torch.zeros(3, 1, dtype=torch.int64))])
        writer.finish()
    assert lattice_for(Dataset.open(tmp_path / "log")) is None
