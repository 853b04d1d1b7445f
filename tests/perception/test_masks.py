"""Masks: every cell equally often target and context, rectangular batches, rows by themselves, refusals."""

from __future__ import annotations

import msgspec
import pytest
import torch
from seen_kinds import uniform

from steersman.core import ConfigError
from steersman.core.looking import Masked, Masks
from steersman.core.parts import convert, registered
from steersman.core.view_configs import MasksConfig
from steersman.perception import masks

FLAT = [masks.MultiBlock.Config(), masks.SingleBlock.Config(), masks.Random.Config(), masks.Raster.Config(),
        masks.MultiBlock.Config(targets=2, scale=(0.05, 0.3), wrap=False)]
CASES = [(config, grid) for config in FLAT for grid in ((8, 8), (7, 10))]
CASES.append((masks.Tubes.Config(each=masks.MultiBlock.Config()), (3, 8, 8)))
CASES.append((masks.Random.Config(), (2, 5, 4)))
cases = pytest.mark.parametrize(("config", "grid"), CASES, ids=lambda x: getattr(type(x), "__name__", x))


def draw(config, grid: tuple[int, ...], b: int, seed: int = 0) -> Masked:
    built = config.build()
    shared, own = built.uniform(grid)
    return built.draw(grid, uniform(1, shared, seed)[0], uniform(b, own, seed + 1))


def test_all_masks_are_tried_here():
    assert {type(config) for config, _ in CASES} == {
        config for config in registered(Masks) if config.__module__.startswith("steersman.")}


@cases
def test_context_and_targets_are_cells_of_the_grid_that_do_not_meet(config, grid):
    n = torch.Size(grid).numel()
    for seed in range(20):
        masked = draw(config, grid, 6, seed)
        assert masked.context.dtype == masked.targets.dtype == torch.int64
        for row in range(6):
            context = masked.context[row].tolist()
            hidden = masked.targets[row].flatten().tolist()
            assert len(context) >= 1
            assert len(set(context)) == len(context), "a cell is seen twice"
            assert not set(context) & set(hidden)
            assert all(0 <= cell < n for cell in context + hidden)
            assert all(len(set(target.tolist())) == len(target) for target in masked.targets[row])


@cases
def test_a_rows_masks_do_not_depend_on_the_batch_around_it(config, grid):
    built = config.build()
    shared, own = built.uniform(grid)
    u = uniform(5, own)
    whole, some = (built.draw(grid, uniform(1, shared)[0], rows) for rows in (u, u[[4, 2]]))
    assert torch.equal(whole.context[[4, 2]], some.context)
    assert torch.equal(whole.targets[[4, 2]], some.targets)


@pytest.mark.parametrize("grid", [(8, 8), (7, 10), (14, 14)])
@pytest.mark.parametrize("config", FLAT[:4], ids=lambda config: config.__struct_config__.tag)
def test_every_cell_is_equally_often_target_and_context(config, grid):
    """Counts over 60 batches of 256 rows, within 8% of their mean: 3.5 standard deviations of the rarest event."""
    n, b = grid[0] * grid[1], 256
    hidden, seen, expected = torch.zeros(n), torch.zeros(n), [0.0, 0.0]
    for seed in range(60):
        masked = draw(config, grid, b, 2 * seed)
        hidden += torch.bincount(masked.targets.flatten(), minlength=n)
        seen += torch.bincount(masked.context.flatten(), minlength=n)
        expected = [expected[0] + masked.targets.numel() / n, expected[1] + masked.context.numel() / n]
    for counts, mean in ((hidden, expected[0]), (seen, expected[1])):
        assert float((counts / mean - 1).abs().max()) < 0.08, (counts / mean).view(grid)
        assert abs(float(counts.mean()) - mean) < 1e-3 * mean


def test_blocks_inside_the_edges_reach_the_last_row_and_column_but_not_alike():
    config, counts = masks.MultiBlock.Config(wrap=False), torch.zeros(196)
    for seed in range(400):
        counts += torch.bincount(draw(config, (14, 14), 8, seed).targets.flatten(), minlength=196)
    assert int(counts.min()) > 0
    ratio = float(counts.view(14, 14)[6:8, 6:8].mean() / counts.view(14, 14)[[0, 0, 13, 13], [0, 13, 0, 13]].mean())
    assert ratio > 10, "then say in the docstring that it is less"


def test_targets_are_blocks_of_the_sizes_that_were_asked_for():
    areas, aspects = [], []
    for seed in range(200):
        masked = draw(masks.MultiBlock.Config(wrap=False), (16, 16), 1, seed)
        assert masked.targets.shape[1] == 4
        for target in masked.targets[0]:
            rows, columns = target // 16, target % 16
            height, width = (int(x.max() - x.min()) + 1 for x in (rows, columns))
            assert height * width == len(target), "not a block"
        areas.append(len(target) / 256)
        aspects.append(height / width)
    assert 0.13 < min(areas) < 0.16
    assert 0.19 < max(areas) < 0.22
    assert 0.65 < min(aspects) < 0.85
    assert 1.3 < max(aspects) < 1.7


def test_enough_stays_visible():
    shares = [draw(masks.MultiBlock.Config(), (8, 8), 1, seed).context.shape[1] / 64 for seed in range(300)]
    assert min(shares) >= 0.1
    assert 0.3 < sum(shares) / 300 < 0.5
    tight = masks.MultiBlock.Config(targets=30, scale=(0.2, 0.2), visible=0.0)
    assert min(draw(tight, (8, 8), 1, seed).context.shape[1] for seed in range(50)) >= 1


def test_tubes_hold_in_every_moment():
    masked = draw(masks.Tubes.Config(each=masks.SingleBlock.Config()), (4, 6, 5), 3)
    moment = draw(masks.SingleBlock.Config(), (6, 5), 3)
    for t in range(4):
        assert torch.equal(masked.context.unflatten(1, (4, -1))[:, t] - 30 * t, moment.context)
        assert torch.equal(masked.targets.unflatten(2, (4, -1))[:, :, t] - 30 * t, moment.targets)


@pytest.mark.parametrize(("config", "grid", "words"), [
    (masks.MultiBlock.Config(scale=(0.9, 1.0)), (8, 8), "blocks that fit a grid of 8 × 8"),
    (masks.MultiBlock.Config(), (1, 64), "blocks that fit a grid of 1 × 64"),
    (masks.MultiBlock.Config(scale=(0.5, 0.5), aspect=(1, 1), context=(0.3, 0.3)), (8, 8), "smaller than the context"),
    (masks.SingleBlock.Config(scale=(0.9, 0.99)), (8, 8), "blocks that fit"),
    (masks.SingleBlock.Config(), (1, 5), "at least 2 rows"),
    (masks.Random.Config(share=0.1), (2, 2), "hides some, not all"),
    (masks.Raster.Config(), (1, 8), "at least 2 rows"),
    (masks.Raster.Config(), (2, 8, 8), "wrap the masks in `Tubes`"),
    (masks.Tubes.Config(each=masks.Raster.Config()), (8, 8), "without `Tubes`"),
])
def test_masks_that_do_not_fit_the_grid_are_refused_in_one_line(config, grid, words):
    with pytest.raises(ConfigError, match=words) as error:
        config.build().uniform(grid)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [
    lambda: masks.MultiBlock.Config(targets=0), lambda: masks.MultiBlock.Config(scale=(0.3, 0.2)),
    lambda: masks.MultiBlock.Config(context=(0.9, 1.1)), lambda: masks.SingleBlock.Config(scale=(0.5, 1.0)),
    lambda: masks.Random.Config(share=1.0),
])
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("config", [config for config, _ in CASES], ids=str)
def test_its_config_survives_json(config):
    assert convert(msgspec.json.decode(msgspec.json.encode(config)), MasksConfig) == config
