"""The recipe for cameras with views: a configuration that trains on any camera, and adds nothing where not asked."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from steersman.core import ActionSpec, ConfigError, Episode, ObservationSpec, Pace, Signature
from steersman.core.parts import convert
from steersman.data import CacheWriter, Dataset
from steersman.objectives import Likeness
from steersman.recipes import pixels
from steersman.training import TrainConfig, create_run, train

ACTION = ActionSpec("continuous", (-1.0,), (1.0,))


def record(folder: Path, shape: tuple[int, int, int]) -> Dataset:
    """Six episodes of 24 steps: pictures of noise, and nothing to be learned."""
    g = torch.Generator().manual_seed(0)
    with CacheWriter(folder, Signature({"image": ObservationSpec("image", shape)}, ACTION), origin="noise") as writer:
        for _ in range(6):
            pictures = torch.randint(0, 256, (25, *shape), generator=g, dtype=torch.uint8)
            writer.append([Episode({"image": pictures}, torch.rand(24, 1, generator=g))])
        writer.finish()
    return Dataset.open(folder)


def small(**options) -> TrainConfig:
    config = pixels.recipe(steps=3, window=4, batch_size=4, width=16, **options)
    return msgspec.structs.replace(config, pace=Pace(step=2, frames=3), gauge_every=0)


def test_views_are_one_objective_more_and_a_file_can_hold_them():
    plain, viewed = pixels.recipe(), pixels.recipe(views=True)
    assert msgspec.structs.replace(viewed, objectives=viewed.objectives[:-1]) == plain
    assert isinstance(viewed.objectives[-1], Likeness.Config)
    assert convert(msgspec.to_builtins(viewed), TrainConfig) == viewed


@pytest.mark.parametrize(("shape", "options"), [
    ((16, 16, 3), {}), ((16, 16, 1), {}), ((16, 16, 3), {"encoder": "keypoints"}), ((64, 64, 3), {"tokens": True})])
def test_it_trains_on_colour_and_on_grey_and_the_part_is_logged(tmp_path, shape, options):
    dataset, config = record(tmp_path / "log", shape), small(views=True, **options)
    with create_run(tmp_path / "run", config, dataset, recipe="pixels") as run:
        train(config, dataset, run)
    assert [row["step"] for row in run.metrics.read() if row.get("part/likeness", 0) > 0] == [1, 2, 3]


def test_keypoints_have_no_tokens():
    with pytest.raises(ConfigError, match="tokens of an encoder conv or vit"):
        pixels.recipe(encoder="keypoints", tokens=True)


def test_weights_differ_from_those_without(tmp_path):
    dataset, kept = record(tmp_path / "log", (16, 16, 3)), []
    for views in (False, True):
        config = small(views=views)
        kept.append(dict(train(config, dataset, None).perception.state_dict()))
    assert kept[0].keys() == kept[1].keys()
    assert any(not torch.equal(x, kept[1][name]) for name, x in kept[0].items())
