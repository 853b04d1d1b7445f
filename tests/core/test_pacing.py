"""Pictures stacked and actions in chunks: signatures there and back, tensors there and back."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, ObservationSpec, Pace, Signature
from steersman.core.pacing import Past, chunked, stacked, unchunked, unstacked

CAMERA = Signature(
    {"image": ObservationSpec("image", (8, 6, 3)), "vector": ObservationSpec("vector", (2,), ("a", "b"))},
    ActionSpec("continuous", (-1.0, 0.0), (1.0, 4.0), names=("push", "gear"), whole=(1,)), ("wind",))
PACE = Pace(step=3, frames=2, apart=2)


def test_a_signature_goes_into_model_steps_and_back() -> None:
    paced = CAMERA.paced(PACE)
    assert paced.observations["image"].shape == (8, 6, 6)
    assert paced.observations["vector"] == CAMERA.observations["vector"]
    assert (paced.action.size, paced.action.chunk, paced.action.whole) == (6, 3, (1, 3, 5))
    assert paced.action.high == (1.0, 4.0) * 3
    assert paced.exogenous == ("wind+0", "wind+1", "wind+2")
    assert paced.world == CAMERA
    assert CAMERA.paced(Pace()) == CAMERA == CAMERA.world
    with pytest.raises(ConfigError, match="pace the log that it was made of"):
        paced.paced(Pace(step=2))


def test_discrete_actions_are_digits_of_one_choice() -> None:
    spec = ActionSpec("discrete", choices=3).chunked(4)
    assert (spec.choices, spec.single.choices) == (81, 3)
    actions = torch.randint(3, (5, 7, 4, 1))
    one = chunked(actions, spec)
    assert one.shape == (5, 7, 1)
    assert int(chunked(torch.tensor([[1], [0], [0], [2]]), spec)) == 29
    assert torch.equal(unchunked(one, spec), actions)
    with pytest.raises(ConfigError, match="shorten the model step"):
        ActionSpec("discrete", choices=9).chunked(4)


def test_continuous_actions_stand_side_by_side_the_first_one_first() -> None:
    spec = CAMERA.action.chunked(3)
    actions = torch.arange(12.0).view(2, 3, 2)
    assert chunked(actions, spec)[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(unchunked(chunked(actions, spec), spec), actions)


def test_pictures_are_stacked_along_channels_the_newest_first() -> None:
    pictures = torch.randint(256, (2, 4, 8, 6, 3), dtype=torch.uint8)
    image = stacked(pictures)
    assert image.shape == (2, 8, 6, 12)
    assert torch.equal(image[..., :3], pictures[:, 0])
    assert torch.equal(unstacked(image, 4), pictures)


def test_the_past_shows_rows_apart_and_repeats_the_first_before_it() -> None:
    past = Past(Pace(frames=3, apart=2))
    rows = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1, 1).expand(8, 2, 1, 1, 1)
    shown = []
    for row in rows:
        past.add({"image": row})
        shown.append(past.moment()["image"][0, 0, 0].tolist())
    assert shown == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 1, 0], [4, 2, 0], [5, 3, 1], [6, 4, 2], [7, 5, 3]]


def test_episodes_that_stand_still_keep_their_past() -> None:
    past = Past(Pace(frames=2))
    for value, on in ((0, None), (1, torch.tensor([True, False])), (2, torch.tensor([True, True]))):
        past.add({"image": torch.full((2, 1, 1, 1), value, dtype=torch.uint8)}, on)
    assert past.moment()["image"][:, 0, 0].tolist() == [[2, 1], [2, 0]]
    assert past.rows(torch.tensor([1])).moment()["image"][:, 0, 0].tolist() == [[2, 0]]


@pytest.mark.parametrize("wrong", [{"step": 0}, {"frames": 0}, {"apart": -1}])
def test_a_pace_below_one_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="correct the pace"):
        Pace(**wrong)


def test_waveforms_cannot_leap_over_samples() -> None:
    sound = Signature({"sound": ObservationSpec("waveform", (16, 1))}, ActionSpec("none"))
    with pytest.raises(ConfigError, match="waveforms"):
        sound.paced(Pace(step=2))
