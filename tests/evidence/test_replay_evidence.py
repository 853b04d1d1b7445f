"""The experiment on replays: its figures, in small, and planners that a world does not suit."""

from __future__ import annotations

from steersman.actor import AStar, Gradient, Greedy
from steersman.core import PlanningError
from steersman.evidence import replay
from steersman.evidence.context import Context


def test_every_session_is_replayed_and_what_does_not_suit_is_named(tmp_path, monkeypatch):
    def refusing(self):  # as on a world of scenes
        raise PlanningError("states that a graph can remember", "scenes", "use another planner")

    monkeypatch.setattr(replay, "WORLDS", (replay.WORLDS[1],))
    monkeypatch.setattr(replay, "EPISODES", 1)
    monkeypatch.setattr(replay, "STEPS", 20)
    monkeypatch.setattr(replay, "LOG", 400)
    monkeypatch.setattr(replay, "_planners", lambda: iter((Greedy.Config(), AStar.Config(), Gradient.Config())))
    monkeypatch.setattr(AStar, "remembered", refusing)
    outcome = replay.experiment(Context(tmp_path, 1))
    figures = outcome.figures
    assert figures["decisions"] == figures["identical"] > 10
    assert (figures["planners"], figures["sessions"], figures["largest_difference"]) == (1, 3, 0)
    said = outcome.tables[0].notes[1]
    assert "astar on CartPole-v1 (states that a graph can remember)" in said
    assert "gradient on CartPole-v1" in said
