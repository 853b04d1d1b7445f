"""`--task FILE.toml` of run and evaluate: the file's task acts, words beside it win, bad names end in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.runs.decisions import session_at

STAGED = """
guardrails = ["speed<=7.5"]
planner = {samples = 6}
[[stage]]
name = "swing"
goal = {columns = {speed = 6.0}}
steps = 4
[[stage]]
name = "up"
goal = {columns = {cos = 1.0, speed = 0.0}}
"""


def test_a_file_is_acted_recorded_and_replayed(pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(STAGED)
    words = ["run", str(pendulum), "--env", "Pendulum-v1", "--episodes", "1", "--json", "--task", "task.toml"]
    ended = steersman(*words)
    assert ended.code == 0, ended.err
    assert ended.json["task"] == "task.toml"
    assert "within speed<=7.5" in ended.err
    records = list(session_at(pendulum, "latest").all())
    assert [record.stage for record in records[:6]] == [(0,)] * 4 + [(1,)] * 2
    assert "stage 2 of 2, 'up'" in steersman("why", f"{pendulum}:5").out
    again = steersman("replay", f"{pendulum}:5")
    assert "identical, bit for bit" in again.out + again.err
    more = steersman(*words, "--keep", "cos<=2", "--goal", "cos=-1", "--weight", "goal=2")
    assert more.code == 0, more.err
    assert "speed<=7.5, cos<=2" in more.err


@pytest.mark.parametrize(("words", "says"), [
    ("skill = 'graps'\n[goal.columns]\ncos = 1", "expected a skill; got 'graps', and there is none"),
    ("weights = {gaol = 1}\n[goal.columns]\ncos = 1", "a cost term in the weights of the task of goal"),
    ("levels = ['plann']\n[goal.columns]\ncos = 1", "a level of plan, corrector; got 'plann'"),
    ("[goal.columns]\ncosine = 1", "of cos, sin, speed; got 'cosine'"),
    ("[[stage]]\ngoal = {columns = {cos = 1}}", "a last stage with an end"),
])
def test_what_there_is_not_ends_in_one_line(
    words: str, says: str, pendulum: Path, steersman: Callable, tmp_path: Path
) -> None:
    (tmp_path / "task.toml").write_text(words)
    verb = ["evaluate", str(pendulum), "--protocol", "pendulum"] if "stage" in words else [
        "run", str(pendulum), "--env", "Pendulum-v1"]
    ended = steersman(*verb, "--task", "task.toml")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert says in ended.err


def test_an_evaluation_takes_the_file_with_the_goals_of_its_episodes(
    pendulum: Path, steersman: Callable, tmp_path: Path
) -> None:
    (tmp_path / "task.toml").write_text('guardrails = ["speed<=7.9"]\nplanner = {samples = 6}\n')
    ended = steersman("evaluate", str(pendulum), "--protocol", "pendulum", "--episodes", "1", "--task", "task.toml",
                      "--json")
    assert ended.code == 0, ended.err
    assert "within speed<=7.9" in ended.err
