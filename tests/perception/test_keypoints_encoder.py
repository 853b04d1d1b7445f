"""Keypoints: places of the scene whatever the window, told apart from what is out of sight; found without labels."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, MismatchError, ObservationSpec, Perception, Signature, registered
from steersman.objectives import place_variance
from steersman.perception import KeypointEncoder
from steersman.worlds import Playground

WORLD = Playground(window=24)
SIGNATURE = Signature({"image": ObservationSpec("image", (64, 64, 3)),
                       "corner": ObservationSpec("vector", (2,), ("row", "column"))}, ActionSpec("none"))


def by_colour(corner: str = "corner") -> KeypointEncoder:
    """An encoder whose maps are steep in what sets each colour of the playground apart."""
    encoder = KeypointEncoder.Config(image="image", corner=corner, scene=64, width=4).build(SIGNATURE)
    first, last = encoder.conv[0], encoder.conv[-1]
    colours = torch.tensor([[1.0, -0.9, -0.9], [-0.9, 1.0, -0.9], [-0.9, -0.9, 1.0], [0.5, 0.5, -1.5]])
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.zero_()
        first.weight[:, :, 2, 2] = colours
        last.weight[torch.arange(4), torch.arange(4), 1, 1] = 4.0
    return encoder.eval()


@torch.no_grad()
def test_a_window_gives_the_places_of_the_whole_scene_or_says_that_they_are_not_seen():
    encoder = by_colour()
    states = WORLD.start(60, torch.Generator().manual_seed(0))
    pictures = WORLD.picture(states[:, None])
    encoder.calibrate({"image": pictures[:, 0], "corner": torch.zeros(60, 2)})
    entire = encoder.encode({"image": pictures, "corner": torch.zeros(60, 1, 2)}).state[:, 0, :3]
    assert bool((entire[..., 2] > 0.5).all())
    assert float((entire[..., :2] - states[:, :3, :2]).abs().max()) < 0.1
    corner = WORLD.jumps((60, 1), torch.Generator().manual_seed(1))
    part = encoder.encode({"image": WORLD.look(pictures, corner), "corner": corner}).state[:, 0, :3]
    spot = torch.stack([32 * (1 - states[:, :3, 1]), 32 * (1 + states[:, :3, 0])], -1) - corner
    inside, outside = ((spot > 5) & (spot < 19)).all(-1), ((spot < -5) | (spot > 29)).any(-1)
    assert inside.sum() > 5
    assert bool((part[inside][:, 2] > 0.5).all())
    assert bool((part[outside][:, 2] < 0.5).all())
    assert float((part[inside] - entire[inside])[:, :2].abs().max()) < 0.05


def test_labels_only_say_which_slot_is_which():
    encoder = by_colour()
    truth = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(0))
    likeness = encoder.arrange(truth[:, [2, 0, 3, 1]], truth)
    assert encoder.order.tolist() == [1, 3, 0, 2]
    assert likeness.tolist() == pytest.approx([1.0] * 4)


def test_slots_that_follow_the_same_or_nothing_begin_anew():
    encoder = by_colour()
    before = encoder.conv[-1].weight.clone()
    places = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(0))
    places[:, 2] = places[:, 0] + 0.01 * places[:, 1]
    places[:, 3] = 0.0
    assert encoder.redraw(places) == 2
    changed = (encoder.conv[-1].weight != before).flatten(1).any(1)
    assert changed.tolist() == [False, False, True, True]


def test_a_slot_of_its_own_for_each_thing_has_the_least_energy():
    g = torch.Generator().manual_seed(0)
    steps = 0.6 * torch.randn(400, 1, 2, 2, generator=g).expand(-1, 3, -1, -1)
    own = place_variance(steps)
    same = place_variance(steps[:, :, :1].expand(-1, -1, 2, -1))
    mean = place_variance(torch.stack([steps.mean(2), steps[:, :, 0]], 2))
    shaking = place_variance(steps + 0.3 * torch.randn(steps.shape, generator=g))
    assert float(own) < min(float(same), float(mean), float(shaking))


def test_it_is_built_by_name_and_refuses_what_it_cannot_see():
    assert KeypointEncoder.Config in registered(Perception)
    with pytest.raises(ConfigError):
        KeypointEncoder.Config(corner="nowhere").build(SIGNATURE)
    with pytest.raises(ConfigError):
        KeypointEncoder.Config(slots=0)
    with pytest.raises(MismatchError, match="hand its corner in"):
        by_colour().encode({"image": torch.zeros(1, 1, 24, 24, 3, dtype=torch.uint8)})
