"""Windows in which more happens than usual are drawn more often, by nothing but the log, the seed and the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_world
import torch
from torch import Tensor

from steersman import training
from steersman.core import ActionSpec, ConfigError, ObservationSpec, Signature, Window
from steersman.training import Sampler, WindowWeights, create_run
from steersman.training.window_weights import window_weights


class Film:
    """Episodes of pictures in which everything flickers a little, and at some steps a square jumps."""

    def __init__(self, lengths: list[int], jumps: dict[int, list[int]], frames: int = 1) -> None:
        g = torch.Generator().manual_seed(0)
        self.lengths = torch.tensor(lengths)
        image = ObservationSpec("image", (40, 48, 3)).stacked(frames)
        self.signature = Signature({"image": image}, ActionSpec("continuous", (-1.0,), (1.0,)))
        self.fingerprint, self.path = "film", Path("film")
        self.films = []
        for e, t in enumerate(lengths):
            film = 100 + torch.randint(0, 3, (t + 1, 40, 48, image.shape[2]), generator=g, dtype=torch.int64)
            for step in jumps.get(e, []):
                film[step + 1 :, :16, :16, :3] = 250 - film[step + 1 :, :16, :16, :3]
            self.films.append(film.to(torch.uint8))

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        seen = torch.stack([self.films[e][s : s + length + 1] for e, s in zip(episode, start, strict=True)])
        return Window({"image": seen}, torch.zeros(len(episode), length, 1), None, episode, start)


@pytest.mark.parametrize("frames", [1, 3])
def test_weights_of_pictures_are_the_change_beyond_the_usual_window_by_window(frames: int) -> None:
    film, length = Film([20, 3, 31], {0: [7], 2: [0, 30]}, frames), 4
    config = WindowWeights(low=0.01, high=100.0)
    change = [[
        float((f[t + 1, ::2, ::2, :3].int() - f[t, ::2, ::2, :3].int()).abs().double().mean()) / 255
        for t in range(len(f) - 1)
    ] for f in film.films]
    usual = np.median([c for e in (0, 2) for c in change[e]])
    score = [
        np.mean([max(0.0, c - usual) for c in change[e][i : i + length]])
        for e in (0, 2) for i in range(len(change[e]) - length + 1)
    ]
    expected = np.clip(np.array(score) / np.mean(score), 0.01, 100)
    np.testing.assert_allclose(window_weights(film, length, config), expected, rtol=1e-9)
    assert expected[4] > 10 * expected[10]
    clipped = window_weights(film, length, WindowWeights())
    assert clipped.min() == 0.2
    assert clipped.max() <= 10


def test_weights_of_columns_are_in_units_of_what_they_change_by() -> None:
    log, length = small_world.Drift(episodes=3, steps=12), 5
    delta = (log.states[:, 1:] - log.states[:, :-1]).double()[..., [2, 0]]
    change = (delta / delta.flatten(0, 1).std(0, correction=0)).abs().mean(-1)
    excess = (change - np.median(change)).clamp(min=0)
    score = excess.unfold(1, length, 1).mean(-1).flatten()
    expected = (score / score.mean()).clamp(0.2, 10)
    found = window_weights(log, length, WindowWeights(columns=("z", "x")))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_log_in_which_nothing_happens_is_drawn_evenly() -> None:
    log = small_world.Drift(episodes=2, steps=9)
    log.states[:] = 1.0
    assert window_weights(log, 4, WindowWeights(columns=("x",))).tolist() == [1.0] * 12


def test_windows_are_drawn_in_proportion_to_their_weights() -> None:
    lengths, window = [3, 8, 2, 5], 3
    weights = np.array([1.0, 2, 0.5, 0.5, 4, 1, 1, 3, 1, 2])  # 1 + 6 + 0 + 3 windows
    sampler = Sampler(lengths, window, 40_000, 0, False, weights)
    episode, start = sampler.draw(3)
    number = torch.tensor([0, 1, 7, 7])[episode] + start
    share = torch.bincount(number, minlength=10).double() / 40_000
    torch.testing.assert_close(share, torch.from_numpy(weights / weights.sum()), atol=0.01, rtol=0)
    assert bool((start + window <= torch.tensor(lengths)[episode]).all())
    again = Sampler(lengths, window, 40_000, 0, False, weights).draw(3)
    assert torch.equal(again[0], episode)
    assert torch.equal(again[1], start)


def test_evenly_weighted_windows_are_those_of_no_weights() -> None:
    lengths, window = [30] * 5, 4
    plain, even = (Sampler(lengths, window, 4000, 7, False, w) for w in (None, np.ones(27 * 5)))
    assert torch.equal(plain.draw(2)[0], even.draw(2)[0])


def test_a_resumed_training_meets_the_windows_of_an_uninterrupted_one(tmp_path: Path) -> None:
    log = small_world.Drift()
    config = small_world.config(steps=12, checkpoint_steps=6, prefer=WindowWeights(columns=("x",)))
    whole = training.train(config, log, None)
    count = iter(range(100))
    with create_run(tmp_path / "run", config, log, recipe="test") as run:
        training.train(config, log, run, stop=lambda: next(count) >= 6)
    resumed = training.resume(tmp_path / "run", dataset=log)
    for name, x in whole.perception.state_dict().items():
        assert torch.equal(resumed.perception.state_dict()[name], x), name
    plain = training.train(small_world.config(steps=12), log, None)
    assert any(not torch.equal(plain.perception.state_dict()[n], x) for n, x in whole.perception.state_dict().items())


def test_what_the_log_does_not_have_is_refused() -> None:
    log = small_world.Drift()
    with pytest.raises(ConfigError, match="columns among x, y, z; got speed"):
        window_weights(log, 4, WindowWeights(columns=("speed",)))
    with pytest.raises(ConfigError, match="exactly one image"):
        window_weights(log, 4, WindowWeights())
    with pytest.raises(ConfigError, match="0 < low"):
        WindowWeights(low=0.0)
    with pytest.raises(ConfigError, match="one way of preferring"):
        small_world.config(prioritise=True, prefer=WindowWeights())
    with pytest.raises(ConfigError, match="to prefer some"):
        small_world.config(feed="streams", prefer=WindowWeights())
