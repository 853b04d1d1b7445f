"""The experiments on chance, tiny: their cells run and learn, their summaries have what the documentation promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from steersman.evidence import chance_pixels, corridor, latent_variable
from steersman.evidence.cell import Cell, Context, Finished, Found, Kept, Results
from steersman.evidence.futures import FORMS, Judged, Learned, configuration, form, judge, learn, recorded
from steersman.worlds import Corridor, Fork


def finished(cell: Cell, found: Found, folder: Path) -> Finished:
    kept = Kept(row=cell.row, seed=cell.seed, settings=None, figures=msgspec.to_builtins(found.figures),
                record=msgspec.to_builtins(found.record), seconds=1.0, date="", machine={}, versions={}, hash="",
                files={})
    return Finished(cell, kept, folder)


def test_what_a_codebook_learned_is_nearer_the_truth_than_before_and_than_a_twin(tmp_path: Path) -> None:
    world, price = Fork(), 0.03
    dataset = recorded(world, tmp_path / "log", 400, 8, 3)
    judged: dict[str, Judged] = {}
    for name, steps in (("deterministic", 150), ("codebook", 300), ("untrained", 1)):
        variable = None if name == "deterministic" else form("codebook", price)
        config = configuration(variable, 2, price, steps, 0)
        judged[name] = judge(learn(config, dataset, tmp_path / name, world.seen), world, 0, price)
    ours, twin, new = judged["codebook"], judged["deterministic"], judged["untrained"]
    assert ours.error < 0.6 * twin.error
    assert ours.coverage < 0.15 < min(twin.coverage, new.coverage)
    assert ours.collapse < 0.5
    assert 0.3 < ours.nats < 1.2
    assert twin.nats == 0
    for found in judged.values():
        assert sum(found.ranks) == pytest.approx(1)


def test_the_cells_are_those_of_every_world_form_seed_and_price() -> None:
    table = latent_variable.cells(5)
    rows = {cell.row for cell in table}
    assert {f"{world}/{name}" for world in latent_variable.WORLDS for name in FORMS} <= rows
    assert {f"sweep/{name}/{price:g}" for name in FORMS for price in latent_variable.SWEPT} <= rows
    assert len([cell for cell in table if cell.row == "fork/sparse"]) == 3
    usual = {one.name: one for cell in table if cell.usual for one in (*cell.needs, cell)}
    assert sum(cell.seconds for cell in usual.values()) <= 25 * 60


def test_a_summary_takes_the_worst_seed_and_draws_the_sweep(tmp_path: Path) -> None:
    table = [cell for cell in latent_variable.cells(0) if cell.row in ("fork/codebook", chance_pixels.ROW)
             or cell.row.startswith("sweep")]
    results = []
    for i, cell in enumerate(table):
        figures = dict.fromkeys(latent_variable._KEYS, 0.01 * i)
        results.append(finished(cell, Found({cell.row: figures}), tmp_path))
    outcome = latent_variable.summary(Results(0, tuple(results)))
    assert outcome.figures["fork/codebook"]["coverage"] == pytest.approx(0.02)
    assert outcome.figures["fork/codebook"]["nats"] == pytest.approx(0.01)
    assert {"collapse", "prediction", "coverage"} <= set(outcome.figures[chance_pixels.ROW])
    assert len(outcome.artefacts) == 1
    assert len(outcome.tables[0].rows) == 2 + len(FORMS) * len(latent_variable.SWEPT)


def test_the_corridor_s_cells_learn_plan_and_guard(tmp_path: Path) -> None:
    settings = corridor.Settings(episodes=300, steps=40, problems=4)
    first = Cell("model", corridor.train, 60, 0, settings)
    (tmp_path / "model").mkdir()
    model = finished(first, corridor.train(Context(tmp_path / "model", 0, settings)), tmp_path / "model")
    results = [model]
    for name, perform in (("beam", corridor.plan), ("guarded", corridor.guard)):
        cell = Cell(name, perform, 60, 0, msgspec.structs.replace(settings, planner=name), (first,))
        found = perform(Context(tmp_path / name, 0, cell.settings, (model,)))
        results.append(finished(cell, found, tmp_path / name))
    figures = corridor.summary(Results(0, tuple(results))).figures
    assert {"mean_right", "worst_right", "cvar_right", "calibration"} <= set(figures["beam"])
    assert all(0 <= figures[f"guard-{delta:g}"]["broken"] <= 1 for delta in corridor.DELTAS)


@pytest.mark.parametrize("way", ["bridge", "round"])
def test_the_energy_of_imagined_columns_is_the_corridor_s(way: str) -> None:
    world = Corridor()
    actions = world.plan(way).expand(4, -1, -1)
    wind = torch.tensor([0.05, 0.5, 0.05, 0.9])[:, None].expand(-1, 8)
    states, energies = world.rollout(actions, wind)
    columns = {"x": states[:, None, 1:, 0], "y": states[:, None, 1:, 1]}
    found = corridor.energy(world, columns, None)[:, 0]  # type: ignore[arg-type]
    torch.testing.assert_close(found.sum(1), energies.sum(1), atol=0.01, rtol=0)
    assert corridor.ways(world, actions).all() == (way == "bridge")


def test_every_planner_goes_the_right_way_over_the_true_wind() -> None:
    """With the corridor itself as model, so that what fails elsewhere is what was learned."""
    from steersman.core import Belief, Imagined, Latent, Perception, WorldModel
    from steersman.perception import LinearReadout
    from steersman.world_model.latent_variable import Noise

    world = Corridor()

    class Wind(WorldModel):
        def __init__(self) -> None:
            super().__init__()
            self.latent_variable = Noise(1)

        def begin(self, latent: Latent, actions: torch.Tensor, exogenous: torch.Tensor | None = None) -> Belief:
            return Belief(latent.state[:, -1])

        def imagine(self, belief: Belief, actions: torch.Tensor, exogenous: torch.Tensor | None = None,
                    u: torch.Tensor | None = None) -> Imagined:
            states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
            for t in range(actions.shape[2]):
                calm = torch.ones(actions.shape[:2]) if u is None else u[:, :, t, 0]
                states.append(world.step(states[-1], actions[:, :, t], calm)[0])
            return Imagined(torch.stack(states, 2))

    class Columns(Perception):
        latent_shape = (2,)

        def encode(self, observation: Any, task: Any = None) -> Latent:
            return Latent(observation["vector"])

    readout = LinearReadout.Config().build(("x", "y"), (2,))
    values = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    readout.fit(values, values, 0)
    learned = Learned(Columns(), Wind(), corridor.observed)
    for name in corridor.PLANNERS:
        for risk in corridor.ATTITUDES.values():
            over = corridor.ways(world, corridor.plans(name, (learned, readout), world, risk, 6, 1))
            best = world.best(risk.tail if risk.over == "cvar" else risk.over)
            assert bool((over == (best == "bridge")).all()), (name, risk)
