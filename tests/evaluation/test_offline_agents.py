"""Every kind of agent can be measured: one that remembers, with known inputs and choices; one that sees pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from exact_world import PUSHED, Pushed, Seen, Shown, log_of

from steersman.agent import Agent, AgentConfig
from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import measure
from steersman.evaluation.what_if import compare
from steersman.perception import LinearReadout, VectorEncoder
from steersman.recipes import two_rooms
from steersman.world_model import ResidualModel, TransformerModel
from steersman.worlds import GymnasiumWorld, TwoRooms, wander


def written(path: Path, signature: Signature, episodes: list[Episode]) -> Dataset:
    with CacheWriter(path, signature) as writer:
        writer.append(episodes)
        writer.finish(path.name)
    return Dataset.open(path)


def test_memory_known_inputs_and_choices(tmp_path: Path) -> None:
    signature = Signature({"vector": ObservationSpec("vector", (2,), ("x", "y"))}, ActionSpec("discrete", choices=3),
                          ("load",))
    g = torch.Generator().manual_seed(0)
    episodes = [
        Episode({"vector": torch.randn(13, 2, generator=g)}, torch.randint(3, (12, 1), generator=g),
                torch.randn(12, 1, generator=g))
        for _ in range(60)
    ]
    learned, held_out = (written(tmp_path / name, signature, part) for name, part in
                         (("a", episodes[:30]), ("b", episodes[30:])))
    config = AgentConfig(
        perception=VectorEncoder.Config(hidden=(8,), size=4), history=3,
        world_model=TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16))
    perception = config.perception.build(signature)
    readout = LinearReadout.Config().build(("x", "y"), (4,))
    agent = Agent(config, signature, perception, config.world_model.build(signature, (4,)), readout=readout)
    trust = measure(agent, learned, held_out, source="b", checkpoint=0, horizon=5)
    assert (trust.unit, trust.units, trust.judged) == ("episode", 30, "columns")
    assert trust.rank.candidates == 2
    found = compare(agent, trust, learned, held_out, 4, 2, torch.full((4, 1), 2), torch.zeros(4, 1, dtype=torch.int64))
    assert found.a.values.shape == (5, 2)
    assert 0 <= found.follows <= 1


def test_pictures_with_a_map_of_the_scene(tmp_path: Path) -> None:
    signature = GymnasiumWorld(TwoRooms()).signature
    episodes = [e for chunk in wander(TwoRooms.Config(), 24, 8, 0) for e in chunk]
    learned, held_out = (written(tmp_path / name, signature, part) for name, part in
                         (("a", episodes[:4]), ("b", episodes[4:])))
    config = two_rooms.recipe().agent
    perception = config.perception.build(signature)
    model = config.world_model.build(signature, perception.latent_shape, perception.context_shape)
    agent = Agent(config, signature, perception, model)
    trust = measure(agent, learned, held_out, source="b", checkpoint=0, horizon=3)
    assert (trust.judged, trust.units, trust.steps) == ("latent", 20, 3)
    assert trust.columns is None


class Laboratory(Shown):
    """The laboratory measures x as well."""

    columns = ("z", "x", "y")

    def read(self, states: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return torch.cat([states[..., :1], states], -1)


def test_what_only_repeats_a_measurement_is_no_measurement(tmp_path: Path) -> None:
    signature = Signature(
        {"lab": ObservationSpec("vector", (1,), ("z",), rows_per_update=4), **PUSHED.observations}, PUSHED.action)
    parts = []
    for name in "ab":
        fast = log_of(tmp_path / f"fast-{name}", 40, 12, seed=ord(name))
        row = torch.arange(13)
        episodes = [
            Episode({"vector": e.observations["vector"], "lab": e.observations["vector"][row - row % 4, :1]}, e.actions,
                    measured={"lab": row % 4 == 0})
            for e in fast.episodes()
        ]
        parts.append(written(tmp_path / name, signature, episodes))
    config = AgentConfig(perception=VectorEncoder.Config(), world_model=ResidualModel.Config())
    agent = Agent(config, signature, Seen(), Pushed(), readout=Laboratory())
    trust = measure(agent, *parts, source="b", checkpoint=0, horizon=6)
    assert max(trust.by_column["z"].model) < 1e-4
    assert max(x for x in trust.bands["z"].each if x is not None) < 1e-4
    assert min(trust.by_column["z"].persistence) > 0.1
    assert trust.horizon == 6
