"""An agent in model steps: acting row by row, learning from a paced log, going on exactly, keeping what it lives."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from filmed_dot import SEEN, SIDE, log_of, pictures

from steersman import training
from steersman.agent import Agent, RowByRow, Transition, record_experience
from steersman.agent.labelling import fit_labelled
from steersman.core import Belief, ColumnGoal, ConfigError, MismatchError, Pace, PlanningError, Task
from steersman.core.pacing import chunked, stacked, unchunked
from steersman.data import Dataset
from steersman.recipes import pixels
from steersman.runs import Run
from steersman.worlds import Labelled

PACE = Pace(step=2, frames=2)


def settings(**changes):  # type: ignore[no-untyped-def]
    given = {"steps": 6, "window": 3, "batch_size": 4, "size": 6, "width": 8, "held_out": 0.3, "react": 0}
    config = msgspec.structs.replace(pixels.recipe(**given), pace=PACE, precision="fp32")  # type: ignore[arg-type]
    return msgspec.structs.replace(config, **changes)


def trained(path: Path, **changes: object) -> Run:
    log = log_of(path.parent / "log")
    with training.create_run(path, settings(**changes), log, recipe="pixels") as run:
        training.train(settings(**changes), log, run)
    return Run.open(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("dot") / "run"
    found = trained(path)
    places = torch.rand(60, 4, 2, generator=torch.Generator().manual_seed(3)) * 10 + 4
    fit_labelled(found, Labelled({"image": pictures(places)}, torch.zeros(60, 3, 2), places[:, -1], ("x", "y")))
    return found


def test_rows_become_moments_and_chunks_become_actions_one_a_row(run: Run) -> None:
    agent, task = Agent.load(run), Task(ColumnGoal({"x": 9.0, "y": 9.0}))
    rows = pictures(torch.tensor([[8.0, 8.0], [9.0, 8.0], [9.0, 9.0], [10.0, 9.0], [10.0, 10.0]]))
    moments = [stacked(torch.stack([rows[i], rows[max(0, i - 1)]]))[None] for i in (0, 2, 4)]
    agent.reset(0)
    plans = [agent.act({"image": moment}, task).actions[0, 0] for moment in moments]
    wanted = torch.cat([unchunked(plan, agent.signature.action) for plan in plans])[: len(rows)]
    acting = RowByRow(Agent.load(run))
    acting.reset(0)
    found = torch.cat([acting.act({"image": row}, task) for row in rows])
    assert found.shape == (5, 2)
    assert torch.equal(found, wanted)


def test_other_rows_than_before_are_refused(run: Run) -> None:
    acting, task = RowByRow(Agent.load(run)), Task(ColumnGoal({"x": 9.0, "y": 9.0}))
    acting.act({"image": pictures(torch.full((2, 2), 9.0))}, task)
    with pytest.raises(PlanningError, match="reset"):
        acting.act({"image": pictures(torch.full((3, 2), 9.0))}, task)
    with pytest.raises(MismatchError):
        acting.act({"image": torch.zeros(2, SIDE, SIDE, 6, dtype=torch.uint8)}, task)


def test_a_training_that_chose_its_pace_keeps_it_and_goes_on_exactly(tmp_path: Path) -> None:
    whole = trained(tmp_path / "a" / "run", checkpoint_steps=2)
    log, done = log_of(tmp_path / "b" / "log"), [0]
    path = tmp_path / "b" / "run"
    with training.create_run(path, settings(checkpoint_steps=2), log, recipe="pixels") as run:
        training.train(settings(checkpoint_steps=2), log, run, stop=lambda: done[0] >= 3,
                       progress=lambda p: done.__setitem__(0, p.step))
    assert training.resume(path).finished
    assert training.stored_config(Run.open(path)).pace == PACE
    assert training.open_data(Run.open(path)).signature == SEEN.paced(PACE)
    a, b = (Agent.load(x).fingerprint() for x in (whole, path))
    assert a == b


def test_what_is_learned_from_and_what_is_held_out_share_no_row(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    parts = training.split(settings(), log)
    rows = [{(int(e), int(r) + j) for e in range(len(part)) for r in [int(part._first[e])]
             for j in range(-PACE.before, int(part.lengths[e]) * PACE.step + 1)} for part in parts]
    first = [{r for _, r in part} for part in rows]
    assert not first[0] & first[1]


def test_what_a_paced_agent_experienced_is_a_log_in_its_steps(run: Run) -> None:
    agent = Agent.load(run)
    record_experience(agent, run)
    picture = stacked(pictures(torch.full((2, 2), 9.0)))[None]
    agent.experience(Transition({"image": picture}))
    for _ in range(3):
        agent.experience(Transition({"image": picture}, chunked(torch.full((1, 2, 2), 0.5), agent.signature.action)))
    assert agent.log is not None
    agent.log.close()
    from steersman import data

    lived = data.build(data.read(str(run.path / "experience")), run.path.parent / "lived")
    assert isinstance(lived, Dataset)
    assert lived.signature.pace == PACE
    assert lived.paced(PACE) is lived
    window = lived.windows(torch.tensor([0]), torch.tensor([0]), 2)
    assert window.observations["image"].shape == (1, 3, SIDE, SIDE, 6)
    assert window.actions.shape == (1, 2, 4)


def hasty(run: Run, **changes: object) -> Agent:
    """Decides after every row of a step of two."""
    loaded = Agent.load(run)
    config = msgspec.structs.replace(loaded.config, react=1, **changes)  # type: ignore[arg-type]
    return Agent(config, loaded.signature, loaded.perception, loaded.world_model, readout=loaded.readout)


def test_an_agent_that_reacts_decides_at_every_row_and_carries_out_the_first_of_a_chunk(run: Run) -> None:
    agent, task = hasty(run), Task(ColumnGoal({"x": 9.0, "y": 9.0}))
    rows = pictures(torch.tensor([[8.0, 8.0], [9.0, 8.0], [9.0, 9.0], [10.0, 9.0], [10.0, 10.0]]))
    acting, first, surprises, plans = RowByRow(agent), [], [], []
    acting.reset(0)
    for row in rows:
        first.append(acting.act({"image": row}, task)[0])
        plans.append(acting.plan)
        surprises.append(agent.surprise)
    assert len({id(plan) for plan in plans}) == 5
    for action, plan in zip(first, plans, strict=True):
        assert torch.equal(action, unchunked(plan.actions[:, :1], agent.signature.action)[0, 0, 0])  # type: ignore
    assert not any(bool(s.known.any()) for s in surprises[:2])  # type: ignore[union-attr]
    moments = [stacked(torch.stack([rows[i], rows[max(0, i - 1)]]))[None] for i in range(5)]
    states = [agent.encode({"image": moment}).state for moment in moments]
    for t in (2, 3, 4):  # what a whole step from two rows before foresees by the two rows that were carried out
        chunk = chunked(torch.stack(first[t - 2 : t])[None], agent.signature.action)
        with torch.inference_mode():
            ends = agent.world_model.imagine(Belief(states[t - 2]), chunk[:, None, None]).states[:, 0, -1]
        wanted = (states[t] - ends).square().mean()
        torch.testing.assert_close(surprises[t].pooled()[0], wanted)  # type: ignore[union-attr]


def test_within_a_step_plans_are_not_moved_on(run: Run) -> None:
    agent, task, passed = hasty(run), Task(ColumnGoal({"x": 9.0, "y": 9.0})), []
    plan = agent.planner.plan
    agent.planner.plan = lambda problem: (passed.append(problem.passed), plan(problem))[1]  # type: ignore
    for _ in range(4):
        agent.act({"image": stacked(pictures(torch.full((2, 2), 9.0)))[None]}, task)
    assert passed == [1, 0, 1, 0]


def test_another_episode_knows_nothing_of_the_one_before(run: Run) -> None:
    agent, task = hasty(run), Task(ColumnGoal({"x": 9.0, "y": 9.0}))
    moment = stacked(pictures(torch.full((2, 2), 9.0))[None].expand(2, -1, -1, -1, -1).transpose(0, 1)
                     .reshape(2, 2, SIDE, SIDE, 3))
    for _ in range(3):
        agent.act({"image": moment}, task)
    agent.begin(torch.tensor([True, False]))
    known = []
    for _ in range(3):
        agent.act({"image": moment}, task)
        known.append(agent.surprise.known.flatten(1).all(1).tolist())  # type: ignore[union-attr]
    assert known == [[False, True], [False, True], [True, True]]


def test_parts_of_a_step_that_there_are_not_and_streams_are_refused(run: Run) -> None:
    loaded = Agent.load(run)
    config = msgspec.structs.replace(loaded.config, react=3)
    with pytest.raises(ConfigError, match="divides the model's step of 2"):
        Agent(config, loaded.signature, loaded.perception, loaded.world_model, readout=loaded.readout)
    with pytest.raises(ConfigError, match="streams"):
        msgspec.structs.replace(loaded.config, react=1, streaming=True)
