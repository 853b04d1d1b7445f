"""The experiment on replays: its figures, in small, and planners that a world does not suit."""

from __future__ import annotations

from steersman import evidence
from steersman.actor import AStar, Gradient, Greedy
from steersman.core import PlanningError
from steersman.evidence import replay


def test_every_session_is_replayed_and_what_does_not_suit_is_named(tmp_path, monkeypatch):
    def refusing(self):  # as on a world of scenes
        raise PlanningError("states that a graph can remember", "scenes", "use another planner")

    monkeypatch.setattr(replay, "_planners", lambda: iter((Greedy.Config(), AStar.Config(), Gradient.Config())))
    monkeypatch.setattr(AStar, "remembered", refusing)
    small = replay.Settings(world=replay.WORLDS[1], log=400, steps=20, episodes=1)
    one = evidence.Experiment("replay", lambda seed: (evidence.Cell("CartPole-v1", replay.perform, 9, seed, small),),
                              replay.summary)
    result, outcome = evidence.perform(one, tmp_path / "run", evidence.Order(1))
    figures = result.figures
    assert figures["decisions"] == figures["identical"] > 10
    assert (figures["planners"], figures["sessions"], figures["largest_difference"]) == (1, 3, 0)
    said = outcome.tables[0].notes[1]
    assert "astar on CartPole-v1 (states that a graph can remember)" in said
    assert "gradient on CartPole-v1" in said
