"""Two plans from one logged moment: told apart where they should be, and never beyond what the log knows in silence."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from exact_world import PUSHED, Pushed, agent_of, log_of

from steersman.core import Episode, UsageError
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import measure
from steersman.evaluation.tape import record
from steersman.evaluation.what_if import Library, compare
from steersman.evaluation.what_if_report import curves, facts, sentences, table
from steersman.runs.trust import Band

STEPS = 6


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("logs")
    learned, other = log_of(folder / "a", 60, 24), log_of(folder / "b", 40, 24, seed=1, noise=0.02)
    agent = agent_of(Pushed())
    return agent, measure(agent, learned, other, source="b", checkpoint=1, horizon=STEPS), learned, other


def pushing(value: float, steps: int = STEPS) -> torch.Tensor:
    return torch.full((steps, 2), value)


def test_what_was_done_is_imagined_as_it_was_logged(known: tuple[object, ...]) -> None:
    agent, trust, learned, other = known
    done = other.episode(3).actions[5 : 5 + STEPS]
    found = compare(agent, trust, learned, other, 3, 5, done, None)
    torch.testing.assert_close(found.a.values, found.b.values)
    torch.testing.assert_close(found.actual, other.episode(3).observations["vector"][5 : 6 + STEPS])
    assert float((found.a.values - found.actual).abs().max()) < 0.2
    assert float(found.ratio.max()) == 0
    assert "nothing tells the plans apart" in sentences(found, trust)[0]


def test_plans_that_lead_elsewhere_are_told_apart(known: tuple[object, ...]) -> None:
    agent, trust, learned, other = known
    found = compare(agent, trust, learned, other, 0, 2, pushing(0.5), pushing(-0.5))
    assert bool((found.ratio > 1).all())
    assert found.actual is None
    assert "x: told apart from step 1 on" in sentences(found, trust)[0]
    shown = table(found, trust, ("0.5", "-0.5"))
    assert {row.group for row in shown.rows} == {"x", "y"}
    assert [c.key for c in shown.columns] == ["a", "b", "ratio"]
    lines = curves(found, ("0.5", "-0.5"))
    assert [x.name for x in lines] == ["what-if-0", "what-if-1"]
    assert len(lines[0].lines[0].low) == STEPS + 1
    assert facts(found, trust)["apart"]["x"] == [True] * STEPS


def test_without_bounds_it_does_not_claim_that_plans_are_alike(known: tuple[object, ...]) -> None:
    agent, trust, learned, other = known
    bare = {name: Band(each=(None,) * STEPS, together=(None,) * STEPS) for name in trust.bands}
    trust = msgspec.structs.replace(trust, bands=bare, units=4, horizon=0)
    found = compare(agent, trust, learned, other, 0, 2, pushing(0.5), pushing(-0.5))
    text = " ".join(sentences(found, trust))
    assert "No bounds: 4 held-out episodes are too few for 90%" in text
    assert "nothing tells" not in text
    assert {row.figures["ratio"].value for row in table(found, trust, ("0.5", "-0.5")).rows} == {None}
    assert facts(found, trust)["apart"]["x"] == [False] * STEPS


def test_an_action_that_the_log_never_shows_is_named(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    with CacheWriter(tmp_path / "timid", PUSHED) as writer:
        for _ in range(60):
            actions = 0.2 * (torch.rand(24, 2, generator=g) * 2 - 1)
            places = torch.cat([torch.randn(1, 2, generator=g), torch.sin(3 * actions)]).cumsum(0)
            writer.append([Episode({"vector": places}, actions)])
        writer.finish("timid")
    timid = Dataset.open(tmp_path / "timid")
    agent = agent_of(Pushed())
    trust = measure(agent, timid, log_of(tmp_path / "b", 40, 24, seed=1), source="b", checkpoint=1, horizon=STEPS)
    found = compare(agent, trust, timid, timid, 0, 2, pushing(1.0), pushing(0.1))
    assert float(found.a.familiar.max()) < 0.05 < float(found.b.familiar.min())
    text = " ".join(sentences(found, trust))
    assert "The plan leaves what the log knows at step 1" in text
    assert "The other stays where the log has been" in text
    assert "closed loop identifies less than an experiment" in text


def test_a_closed_loop_is_told_from_an_experiment(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    with CacheWriter(tmp_path / "loop", PUSHED) as writer:
        for _ in range(60):
            place, places, actions = torch.randn(2, generator=g), [], []
            for _ in range(24):
                places.append(place)
                actions.append((-0.4 * place).clamp(-1, 1))
                place = place + torch.sin(3 * actions[-1]) + 0.3 * torch.randn(2, generator=g)
            writer.append([Episode({"vector": torch.stack([*places, place])}, torch.stack(actions))])
        writer.finish("loop")
    agent = agent_of(Pushed())
    loop = Library(agent, record(agent, Dataset.open(tmp_path / "loop"), 10_000))
    free = Library(agent, record(agent, log_of(tmp_path / "free", 60, 24), 10_000))
    assert loop.follows > 0.8
    assert free.follows < 0.1


@pytest.mark.parametrize(("row", "steps", "says"), [
    (40, 3, r"a row in 0\.\.24"), (22, 4, "logged actions for 4 steps from row 22; got 2"), (0, 7, "at most 6 steps"),
])
def test_what_cannot_be_compared_is_refused(known: tuple[object, ...], row: int, steps: int, says: str) -> None:
    agent, trust, learned, other = known
    with pytest.raises(UsageError, match=says):
        compare(agent, trust, learned, other, 0, row, pushing(0.5, steps), None)
