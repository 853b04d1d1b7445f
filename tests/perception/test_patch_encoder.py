"""Tokens of tiles: the same thing is the same token wherever it stands, and no kind of tile is lost."""

from __future__ import annotations

import pytest
import tiled_walk as walk
import torch

from steersman.core import ConfigError, ObservationSpec, Signature
from steersman.perception import PatchEncoder

CONFIG = PatchEncoder.Config(patch=walk.TILE, offset=(walk.OFFSET, walk.OFFSET), size=4)


def fitted(config=CONFIG, count=30):
    layouts = walk.walls(count, 0)
    shown = walk.pictures(layouts, torch.stack([walk.free(layout)[-1] for layout in layouts]))
    encoder = config.build(walk.SIGNATURE)
    encoder.calibrate({"image": shown})
    return encoder, layouts, shown


def test_a_tile_has_one_token_wherever_it_stands_and_kinds_lie_apart():
    encoder, layouts, shown = fitted()
    assert encoder.latent_shape == (64, 4)
    assert encoder.grid == (8, 8)
    tokens = encoder.encode({"image": shown}).state.unflatten(1, encoder.grid)[:, 1:7, 1:7]
    walls, floor = tokens[layouts], tokens[~layouts]
    assert float((walls - walls[0]).abs().max()) < 1e-5
    walker = floor[(floor - floor.median(0).values).norm(dim=1) > 0.1]
    assert len(walker) == len(shown)  # one a picture, and all alike
    assert float((walker - walker[0]).abs().max()) < 1e-5
    kinds = torch.stack([walls[0], floor.median(0).values, walker[0]])
    assert float(torch.cdist(kinds, kinds).add(torch.eye(3) * 9).min()) > 0.5


def test_off_the_lattice_the_same_wall_is_many_tokens():
    encoder, _, shown = fitted(PatchEncoder.Config(patch=8, size=4))
    tokens = encoder.encode({"image": shown}).state.flatten(0, 1)
    right = fitted()[0].encode({"image": shown}).state.flatten(0, 1)
    count = lambda x: len((x * 100).round().unique(dim=0))  # noqa: E731
    assert count(right) == 3 + 4 + 4  # kinds, and the margin at edges and corners
    assert count(tokens) > 4 * count(right)


def test_what_is_rare_is_as_loud_as_what_is_everywhere():
    encoder, _, shown = fitted()
    once = PatchEncoder.Config(patch=walk.TILE, offset=(walk.OFFSET, walk.OFFSET), size=4).build(walk.SIGNATURE)
    once.calibrate({"image": shown.repeat(3, 1, 1, 1)})
    assert torch.allclose(once.basis, encoder.basis, atol=1e-5)


def test_moments_keep_their_shape_and_autocast_changes_nothing():
    encoder, _, shown = fitted()
    alone = encoder.encode({"image": shown[:6]}).state
    with torch.autocast("cpu", torch.bfloat16):
        windows = encoder.encode({"image": shown[:6].unflatten(0, (2, 3))}).state
    assert windows.shape == (2, 3, 64, 4)
    assert windows.dtype == torch.float32
    assert torch.allclose(windows.flatten(0, 1), alone, atol=1e-5)


def test_more_features_than_a_tile_has_numbers_are_nothing():
    grey = Signature({"image": ObservationSpec("image", (8, 8, 1))}, walk.SIGNATURE.action)
    encoder = PatchEncoder.Config(patch=2, size=9).build(grey)
    encoder.calibrate({"image": torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)})
    assert float(encoder.basis[:, 4:].abs().max()) == 0


@pytest.mark.parametrize("values", [{"patch": -1}, {"size": 0}, {"patch": 4, "offset": (4, 0)}])
def test_what_is_none_is_refused(values):
    with pytest.raises(ConfigError, match="a patch of at least 0"):
        PatchEncoder.Config(**values)


def test_a_patch_that_nobody_settled_is_refused():
    with pytest.raises(ConfigError, match="lattice_for"):
        PatchEncoder.Config(patch=0).build(walk.SIGNATURE)


def test_a_patch_larger_than_the_picture_is_refused():
    low = Signature({"image": ObservationSpec("image", (8, 12, 1))}, walk.SIGNATURE.action)
    assert PatchEncoder.Config(patch=8).build(low).grid == (1, 2)
    with pytest.raises(ConfigError, match="at most 8 pixels"):
        PatchEncoder.Config(patch=9).build(low)
