"""Streams: consecutive pieces with carried state. What is carried changes nothing but where gradients stop."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import SIGNATURE, Drift, config
from torch import Tensor

from steersman.agent import AgentConfig
from steersman.core import ActionSpec, Carried, ConfigError, DataError, ObservationSpec, Signature, Window
from steersman.objectives import Following, VICReg
from steersman.perception import VectorEncoder
from steersman.runs import Run
from steersman.training import Streams, TrainConfig, create_run, resume, train
from steersman.training.learner import Learner
from steersman.training.processes import Processes
from steersman.world_model import RecurrentModel

LENGTHS = [17, 9, 30, 4, 12, 25, 8, 21]


def streaming(**changes: object) -> TrainConfig:
    agent = AgentConfig(perception=VectorEncoder.Config(hidden=(16,), size=8),
                        world_model=RecurrentModel.Config(width=16))
    settings = {"agent": agent, "objectives": (Following.Config(), VICReg.Config()), "feed": "streams", "window": 4,
                "batch_size": 3, "rollout": ()}
    return config(**(settings | changes))


def test_a_draw_is_a_function_of_seed_and_step_alone() -> None:
    def drawn(order: list[int], seed: int = 5) -> dict[int, list[list[int]]]:
        streams = Streams(LENGTHS, 4, 3, seed)
        return {step: [x.tolist() for x in streams.draw(step)] for step in order}

    there = drawn(list(range(60)))
    assert drawn(list(reversed(range(60)))) == there
    assert drawn(list(range(60)), seed=6) != there


def test_streams_read_every_piece_once_in_a_pass_and_in_order() -> None:
    streams = Streams(LENGTHS, 4, 3, 0)
    total = sum(x // 4 for x in LENGTHS)
    assert streams.each == total // 3
    orders = []
    for number in range(3):
        steps = [streams.draw(number * streams.each + i) for i in range(streams.each)]
        seen = {(int(e), int(s)) for episode, start in steps for e, s in zip(episode, start, strict=True)}
        assert len(seen) == 3 * streams.each
        for episode, start in steps:
            for e, s in zip(episode.tolist(), start.tolist(), strict=True):
                assert 0 <= s <= LENGTHS[e] - 4
        for before, after in pairwise(steps):
            same = (before[0] == after[0]).numpy()
            assert (np.asarray(after[1])[same] == np.asarray(before[1])[same] + 4).all()
        orders.append([int(e) for e, _ in sorted(seen)])
        assert sum(float((a[0] == b[0]).float().mean()) for a, b in pairwise(steps)) > 2
    firsts = {int(streams.draw(number * streams.each)[1][0]) % 4 for number in range(30)}
    assert len(firsts) > 1, "the steps that no piece holds are others in another pass"


def test_streams_shorter_than_a_piece_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"at least 9 pieces of 20 steps, one a stream; got 3 in 8 episodes"):
        Streams(LENGTHS, 20, 9, 0)
    with pytest.raises(ConfigError, match="prioritise=False"):
        streaming(prioritise=True)
    with pytest.raises(ConfigError, match="pieces of at least 1 step"):
        streaming(window=0)


def pieces(data: Drift, length: int, start: int) -> Window:
    return data.windows(torch.arange(3), torch.full((3,), start), length)


def test_pieces_with_carried_state_equal_one_whole_piece() -> None:
    data = Drift()
    learner = Learner(streaming(lr=1e-30, weight_decay=0.0), SIGNATURE, torch.device("cpu"), Processes())
    whole = learner.make(pieces(data, 12, 0), learner.config.stages[0]).of(Carried())
    assert whole.begun.all()
    states = [whole.states[:, :1]]
    for i in range(3):
        made = learner.step(pieces(data, 4, 4 * i), i).batch.of(Carried())
        assert made.begun.tolist() == [i == 0] * 3
        torch.testing.assert_close(made.foreseen, whole.foreseen[:, 4 * i : 4 * i + 4])
        states.append(made.states[:, 1:])
    torch.testing.assert_close(torch.cat(states, 1), whole.states)
    for x in (made.belief.state, *made.belief.carry):
        assert not x.requires_grad, "gradients end where the piece ends"
    elsewhere = learner.step(pieces(data, 4, 3), 3).batch.of(Carried())
    assert elsewhere.begun.all(), "another row than where the stream stopped: it begins anew"


def test_a_stopped_training_of_streams_goes_on_bit_for_bit(tmp_path: Path) -> None:
    data = Drift()
    for name in ("whole", "parts"):
        create_run(tmp_path / name, streaming(), data, recipe="test").close()
    whole = train(streaming(), data, Run.open(tmp_path / "whole"))
    count = iter(range(1000))
    train(streaming(), data, Run.open(tmp_path / "parts"), stop=lambda: next(count) >= 13)
    rest = resume(tmp_path / "parts", dataset=data)
    assert rest.step == 30
    assert rest.world_model is not None
    for a, b in zip(whole.world_model.parameters(), rest.world_model.parameters(), strict=True):
        assert torch.equal(a, b)


class Cue:
    """A number is shown at the beginning; it decides what is seen in the second of two pieces. In between: noise."""

    signature = Signature({"vector": ObservationSpec("vector", (2,))}, ActionSpec("none"))
    fingerprint, path = "cue", Path("cue")

    def __init__(self, episodes: int = 64) -> None:
        g = torch.Generator().manual_seed(1)
        self.cue = torch.randint(0, 2, (episodes,), generator=g).float() * 2 - 1
        self.states = 0.3 * torch.randn(episodes, 9, 2, generator=g)
        self.states[:, :2, 0] = 3 * self.cue[:, None]
        self.states[:, 6, 1] = 3 * self.cue
        self.lengths = torch.full((episodes,), 8)

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        rows = start[:, None] + torch.arange(length + 1)
        return Window({"vector": self.states[episode[:, None], rows]}, torch.zeros(len(episode), length, 0), None,
                      episode, start)


@pytest.mark.parametrize("carried", [True, False])
def test_what_lies_longer_ago_than_a_piece_is_remembered_by_what_is_carried(
    carried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gradient reaches the piece in which the number was shown, but what the recurrent state holds of it does."""
    data = Cue()
    agent = AgentConfig(perception=VectorEncoder.Config(size=1, hidden=(4,), keep=True),
                        world_model=RecurrentModel.Config(width=24))
    c = streaming(agent=agent, objectives=(Following.Config(),), window=4, batch_size=16, steps=400, lr=1e-2,
                  gauge_every=0)
    if not carried:
        monkeypatch.setattr(Learner, "_carried", lambda self, batch: None)
    trained = train(c, data, None)
    assert trained.world_model is not None
    learner = Learner(c, data.signature, torch.device("cpu"), Processes())
    learner.parts["perception"], learner.parts["world_model"] = trained.perception, trained.world_model
    learner.parts.train()
    with torch.no_grad():
        whole = data.windows(torch.arange(64), torch.zeros(64, dtype=torch.long), 8)
        made = learner.make(whole, c.stages[0])
    foreseen, seen = made.of(Carried()).foreseen[:, 5], made.latent.state[:, 6]
    shown = int((seen - seen.mean(0)).square().mean(0).argmax())
    share = float((foreseen - seen)[:, shown].square().mean() / (seen - seen.mean(0))[:, shown].square().mean())
    assert (share < 0.5) is carried, share
