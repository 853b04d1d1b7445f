"""A camera: pictures made square by whole blocks, what stands beside them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import dot
import numpy as np
import pytest
import torch

from steersman.core import ActionSpec, ConfigError, DataError, MismatchError, ObservationSpec, UsageError
from steersman.worlds import Camera, make_scene, make_world, square

DOT = f"{Path(dot.__file__)}:make"


def blocks(picture: np.ndarray, k: int) -> np.ndarray:
    """The reference: the mean of every k x k block."""
    h, w, _ = picture.shape
    return picture.reshape(h // k, k, w // k, k, 3).astype(np.float64).mean((1, 3))


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 160, 3)).astype(np.uint8)


def test_padding_takes_the_mean_of_whole_blocks_and_keeps_everything(noise: np.ndarray) -> None:
    noise = noise[:95]
    seen = square(noise, 32, "pad")
    assert seen.shape == (32, 32, 3)
    k = 5  # 160 / 32
    inside = blocks(noise, k)
    assert np.abs(seen[6:6 + 19].astype(float) - inside).max() < 1
    assert (seen[:6] == seen[0, 0]).all()
    assert np.abs(seen[0, 0].astype(float) - np.median(np.concatenate(
        [inside[0], inside[-1], inside[:, 0], inside[:, -1]]), 0)).max() < 1.5


def test_cropping_takes_the_mean_of_whole_blocks_of_the_middle(noise: np.ndarray) -> None:
    assert np.abs(square(noise, 32, "crop").astype(float) - blocks(noise[:, 32:128], 3)).max() < 1


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_small_pictures_are_framed_not_enlarged(fit: str, noise: np.ndarray) -> None:
    seen = square(noise[:20, :30], 64, fit)  # type: ignore[arg-type]
    assert (seen[22:42, 17:47] == noise[:20, :30]).all()
    assert (seen[:22] == seen[0, 0]).all()


def test_the_margin_does_not_take_the_colour_of_what_passes_the_corner() -> None:
    picture = np.full((40, 64, 3), 90, np.uint8)
    picture[:4, :4] = 255
    assert (square(picture, 64)[0, 0] == 90).all()


def test_a_picture_of_the_right_size_is_not_touched(noise: np.ndarray) -> None:
    assert (square(noise[:64, :64], 64) == noise[:64, :64]).all()


def test_what_moves_by_a_block_moves_by_a_pixel() -> None:
    camera = Camera(make_scene(DOT), 16)
    camera.scene.reset(0)
    before = camera.look()["image"]
    camera.scene.step(torch.tensor([1.0, 0.0]))
    assert torch.equal(camera.look()["image"][:, 1:], before[:, :-1])
    assert int((before == 255).all(-1).sum()) == 1


def test_the_signature_is_a_picture_and_what_stands_beside_it() -> None:
    scene = make_scene(DOT)
    assert scene.columns == ("x", "y")
    assert Camera(scene, 32).signature.observations == {"image": ObservationSpec("image", (32, 32, 3))}
    camera = Camera(scene, 32, beside=("y",))
    assert camera.signature.observations["vector"] == ObservationSpec("vector", (1,), ("y",))
    assert camera.signature.action == ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0))
    scene.reset(3)
    scene.step(torch.tensor([0.0, 0.5]))
    assert camera.look()["vector"].tolist() == [scene.truth()[1]]


@pytest.mark.parametrize(("fault", "error", "words"), [
    ("nothing", MismatchError, "expected a picture from render.*got NoneType"),
    ("black", DataError, "black everywhere"), ("float", MismatchError, r"uint8.*\(40, 64, 3\) of float32"),
])
def test_pictures_that_are_none_are_said_in_one_line(fault: str, error: type[Exception], words: str) -> None:
    camera = Camera(make_scene(DOT, fault=fault))
    camera.scene.reset(0)
    with pytest.raises(error, match=words) as caught:
        camera.look()
    assert "\n" not in str(caught.value)


def test_pictures_of_two_sizes_are_refused() -> None:
    camera = Camera(make_scene(DOT, fault="sizes"))
    camera.scene.reset(0)
    camera.look()
    with pytest.raises(DataError, match=r"one size.*\(41, 64\), then \(42, 64\)"):
        camera.look()


def test_environments_without_pictures_are_refused() -> None:
    for function, words in (("make_blind", "render modes: none"), ("make_plain", "takes no render_mode")):
        with pytest.raises(UsageError, match=words):
            make_scene(f"{Path(dot.__file__)}:{function}")


def test_cameras_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        Camera(make_scene(DOT), 4)
    with pytest.raises(ConfigError, match=r"among x, y; got speed"):
        Camera(make_scene(DOT), beside=("speed",))
    with pytest.raises(UsageError, match="scripted behaviour"):
        make_scene(DOT).scripted(torch.Generator())
    with pytest.raises(UsageError, match="a way to put"):
        make_scene(DOT).place({"x": 1.0})


def test_a_camera_is_a_gymnasium_environment() -> None:
    from gymnasium.utils.env_checker import check_env

    world = make_world(DOT, pixels=32)
    check_env(world.env, skip_render_check=True)
    one, two = (world.reset(seed=5)["image"] for _ in range(2))
    assert torch.equal(one, two)
    step = world.step(torch.tensor([1.0, 0.0]))
    assert step.reward == 1.0
    assert world.info["truth"].keys() == {"x", "y"}
    assert torch.equal(torch.as_tensor(world.render()), step.observation["image"])
