"""Trust from a log alone: an exact model is told from one that ignores what is done, and from one that drifts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from exact_world import Pushed, agent_of, log_of

from steersman.core import DataError, UsageError
from steersman.evaluation import measure
from steersman.evaluation.offline import beaten
from steersman.evaluation.tape import draw, record, units_of
from steersman.evaluation.trust_report import curves, horizon_sentence, sentences, table
from steersman.runs.trust import Trust


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object]:
    folder = tmp_path_factory.mktemp("logs")
    return log_of(folder / "a", 60, 24), log_of(folder / "b", 60, 24, seed=1, noise=0.02)


def measured(model: Pushed, parts: tuple[object, object], readout: bool = True, **options: object) -> Trust:
    return measure(agent_of(model, readout), *parts, source="b", checkpoint=3, **options)


def test_an_exact_model_is_trusted_as_far_as_it_was_followed(parts: tuple[object, object]) -> None:
    trust = measured(Pushed(), parts)
    assert (trust.horizon, trust.begins, trust.steps, trust.judged) == (15, 1, 15, "columns")
    assert trust.rank.mean < 0.02
    assert 0.45 < trust.rank.chance < 0.55
    assert trust.rank.low <= trust.rank.mean <= trust.rank.high
    assert trust.columns is not None
    assert max(trust.columns.model) < 0.03 < min(trust.columns.persistence)
    assert all(a < b for a, b in zip(trust.columns.model, trust.columns.linear, strict=True))
    assert trust.coverage.mean == pytest.approx(0.91, abs=0.025)
    assert set(trust.by_column) == set(trust.bands) == {"x", "y"}


def test_bounds_grow_from_a_step_to_all_steps_to_all_starts(parts: tuple[object, object]) -> None:
    bounds = measured(Pushed(gain=0.8), parts).bounds
    for each, up_to, episode in zip(bounds.each, bounds.up_to, bounds.episode, strict=True):
        assert each <= up_to + 1e-6
        assert up_to <= episode + 1e-6
    assert list(bounds.up_to) == sorted(bounds.up_to)


def test_a_model_that_ignores_actions_ranks_them_by_chance_and_is_not_trusted(parts: tuple[object, object]) -> None:
    trust = measured(Pushed(gain=0.0), parts)
    assert trust.rank.mean == 0.5
    assert (trust.horizon, trust.begins) == (0, 0)
    assert "do not plan with it" in horizon_sentence(trust)


@pytest.mark.parametrize(("model", "still", "linear", "says"), [
    (0.5, 0.4, 0.6, "better than no change (at step 15 it is off by 0.5, no change by 0.4"),
    (0.05, 1.0, 0.01, "what this log shows is all but linear. Plans may serve"),
    (0.5, 1.0, 0.4, "both no change and a linear model (at step 15 it is off by 0.5"),
])
def test_where_nothing_is_trusted_it_says_which_predictor_is_better(
    parts: tuple[object, object], model: float, still: float, linear: float, says: str
) -> None:
    trust = measured(Pushed(), parts)
    assert trust.columns is not None
    errors = msgspec.structs.replace(
        trust.columns, **{k: (v,) * 15 for k, v in (("model", model), ("persistence", still), ("linear", linear))})
    assert says in horizon_sentence(msgspec.structs.replace(trust, horizon=0, begins=0, columns=errors))


def test_too_few_pieces_for_a_bound_say_how_to_get_enough(parts: tuple[object, object]) -> None:
    learned, other = parts
    trust = measured(Pushed(), (learned, other.subset(torch.arange(4))), horizon=8)
    assert trust.units == 4
    assert trust.bounds.each[0] is None
    assert any("hold out at least 9 (train with --set held_out=0.15)" in note for note in trust.notes)


def test_a_model_that_drifts_is_trusted_until_it_stops_beating_the_simplest(parts: tuple[object, object]) -> None:
    trust = measured(Pushed(drift=0.12), parts)
    assert trust.begins == 1
    assert 1 <= trust.horizon < trust.steps
    errors = trust.columns
    assert errors is not None
    after = trust.horizon + 1
    assert errors.model[after] > min(errors.linear[after], errors.persistence[after]) * 0.9


def test_without_a_read_out_the_latent_is_judged(parts: tuple[object, object]) -> None:
    trust = measured(Pushed(), parts, readout=False, horizon=4)
    assert (trust.judged, trust.columns, trust.bands, trust.steps) == ("latent", None, {}, 4)
    assert trust.horizon == 4


def test_the_same_seed_finds_the_same(parts: tuple[object, object]) -> None:
    assert measured(Pushed(drift=0.05), parts) == measured(Pushed(drift=0.05), parts)


def test_one_long_episode_is_cut_into_segments_and_that_is_said(tmp_path: Path) -> None:
    parts = log_of(tmp_path / "a", 1, 900), log_of(tmp_path / "b", 1, 700, seed=1, noise=0.02)
    trust = measured(Pushed(), parts, horizon=5)
    assert trust.unit == "segment"
    assert trust.units == 44
    assert "cut into 44 segments" in sentences(trust)[-3]
    tape = record(agent_of(Pushed()), parts[1], 10_000)
    number, left, cut = units_of(tape, 5, 20)
    rows = draw(number, left, tape, 5, 1, 10_000, 0)
    assert cut
    ends, begins = {}, {}
    for row in rows.tolist():
        u = int(number[row])
        ends[u], begins[u] = max(ends.get(u, 0), row + 5), min(begins.get(u, 10**9), row)
    assert all(begins[u + 1] - ends[u] >= 5 for u in sorted(begins)[:-1])


def test_windows_are_spread_evenly_over_episodes(tmp_path: Path) -> None:
    tape = record(agent_of(Pushed()), log_of(tmp_path / "a", 30, 50), 10_000)
    rows = draw(tape.episode, tape.ahead, tape, 10, 3, 90, 0)
    assert torch.bincount(tape.episode[rows]).tolist() == [3] * 30
    assert bool((tape.ahead[rows] >= 10).all())
    assert bool((tape.row[rows] >= 2).all())


def test_the_stretch_ends_where_the_model_first_fails() -> None:
    unit = torch.arange(200)
    better, worse = torch.ones(200), torch.full((200,), 3.0)
    model = torch.stack([worse, better, better, worse, better], 1)
    other = torch.full((200, 5), 2.0) + 0.1 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    assert beaten(torch.stack([model, other, other]), unit) == (2, 3)


def test_what_was_found_is_told(parts: tuple[object, object]) -> None:
    trust = measured(Pushed(drift=0.12), parts)
    shown = table(trust)
    assert [row.label for row in shown.rows][:2] == ["step 1", "step 2"]
    assert f"step {trust.horizon}" in [row.label for row in shown.rows]
    assert [c.name for c in curves(trust)] == ["trust-error", "trust-bound", "trust-column-0", "trust-column-1"]
    text = " ".join(sentences(trust))
    assert f"up to step {trust.horizon}, of 15 measured" in text
    assert "which is chance" in text


def test_what_cannot_be_measured_is_refused(parts: tuple[object, object]) -> None:
    with pytest.raises(DataError, match="at least 99 steps"):
        measured(Pushed(), parts, horizon=99)
    with pytest.raises(UsageError, match="level between 0 and 1"):
        measured(Pushed(), parts, level=1.0)
