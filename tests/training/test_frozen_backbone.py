"""A world model over tokens of a frozen network: trained, interrupted, loaded; the network is stored once or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_film import Film
from small_world import config
from torch import nn

from steersman.agent import AgentConfig, load_parts
from steersman.core import PartError
from steersman.perception import FrozenBackbone, backbone_source, register_backbone
from steersman.training import create_run, resume, train
from steersman.world_model import ResidualModel

FILM = Film()


@register_backbone("patches of a film")
def patches() -> nn.Module:
    """(N, 3, 8, 8) -> (N, 5, 2, 2), always the same."""
    network = nn.Conv2d(3, 5, 4, 4)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))
    return network


def settings(keep: bool) -> Any:
    perception = FrozenBackbone.Config(model="patches of a film", keep=keep, projector=6, size=4)
    agent = AgentConfig(perception=perception, world_model=ResidualModel.Config(width=8))
    return config(agent=agent, steps=10, checkpoint_steps=4)


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_goes_on_exactly_and_is_loaded(keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c, done = settings(keep), [0]
    with create_run(tmp_path / "whole", c, FILM, recipe="test") as run:
        whole = train(c, FILM, run)
    with create_run(tmp_path / "parts", c, FILM, recipe="test") as run:
        train(c, FILM, run, progress=lambda p: done.__setitem__(0, p.step), stop=lambda: done[0] >= 5)
    rest = resume(tmp_path / "parts", dataset=FILM)
    loaded = load_parts(tmp_path / "parts").parts.perception
    mine = whole.perception.state_dict()
    assert any(name.startswith("network.") for name in mine) is keep
    for other in (rest.perception, loaded):
        assert all(torch.equal(x, other.state_dict()[name]) for name, x in mine.items())
        seen = {"image": FILM.images[:2]}
        assert torch.equal(other.encode(seen).state, whole.perception.encode(seen).state)
    monkeypatch.setattr(backbone_source, "_REGISTERED", {})
    with pytest.raises(PartError, match="import the module that calls `register_backbone`"):
        load_parts(tmp_path / "parts")
