"""From a recorded log to an agent that acts towards a goal, by the commands alone; and what people get wrong there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from steersman.runs import Run
from steersman.runs.artefacts import Flight, Lines, Table, read_all


def test_an_agent_acts_and_the_run_keeps_what_it_did(pendulum: Path, steersman: Callable) -> None:
    words = ["run", str(pendulum), "--env", "Pendulum-v1", "--goal", "1,0,0", "--episodes", "2", "--seed", "3",
             "--json"]
    ended = steersman(*words)
    assert ended.code == 0, ended.err
    facts = ended.json
    assert len(facts["returns"]) == 2
    assert facts["worst_return"] == min(facts["returns"])
    assert facts["lengths"] == [200, 200]
    assert facts["random_return"] < -500
    assert facts["ms_per_act"] > 0
    assert "random actions, same starts" in ended.err
    run = Run.open(pendulum)
    assert [t.name for t in read_all(run.path, Table)[0]] == ["collapse", "run-pendulum-v1"]
    flight = read_all(run.path, Flight)[0][0]
    assert len(flight.decisions) == 200
    assert flight.decisions[7].step == 7
    lines = read_all(run.path, Lines)[0]
    assert [x.title.split(",")[0] for x in lines] == ["cos", "sin", "speed"]
    assert [x.role for x in lines[0].lines] == ["actual", "imagined"]
    assert steersman(*words).json["returns"] == facts["returns"]


def test_a_limit_is_kept_in_imagination_and_named(pendulum: Path, steersman: Callable) -> None:
    ended = steersman("run", str(pendulum), "--env", "Pendulum-v1", "--goal", "speed=0", "--keep", "speed<=0.0001",
                      "--keep", "speed>=-0.0001", "--episodes", "1", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["infeasible"] > 0
    assert "speed<=0.0001, speed>=-0.0001" in ended.err


def test_a_goal_that_no_imagined_way_comes_nearer_to_is_said_and_what_is_advised_can_be_done(
    pendulum: Path, steersman: Callable
) -> None:
    words = ["run", str(pendulum), "--env", "Pendulum-v1", "--episodes", "1", "--json"]
    lost = steersman(*words, "--goal", "speed=1000")
    assert lost.code == 0, lost.err
    assert 150 < lost.json["lost"] <= 170
    said = f"{lost.json['lost']} decisions, in 1 of 1 episodes: for 30 steps or more no imagined way came nearer"
    assert said in lost.err
    assert "no imagined way came nearer to the goal: it may lie beyond 3" in steersman("why", f"{pendulum}:99").out
    assert steersman("report", str(pendulum)).code == 0
    assert (pendulum / "report/report.html").read_text().count(said) == 2
    planner = re.search(r"--planner '(.*)'", lost.err)
    assert planner is not None
    assert '"horizon":21' in planner[1]
    assert steersman(*words, "--goal", "speed=1000", "--planner", planner[1]).code == 0
    assert steersman("replay", f"{pendulum}:99").code == 0
    assert steersman(*words, "--goal", "speed=0~1000").json["lost"] == 0


WRONG = [
    (["--goal", "1,0"], 2, "3 numbers (cos, sin, speed)"),
    (["--goal", "1,0,x"], 2, "'x'"),
    (["--goal", "spee=0"], 2, "cos, sin, speed"),
    (["--goal", "picture.png"], 2, "give observations by name: vector=0,…"),
    (["--goal", ""], 2, "the world sets none"),
    (["--goal", "1,0,0", "--keep", "speed<6"], 2, "COLUMN<=NUMBER"),
    (["--goal", "1,0,0", "--keep", "height<=6"], 2, "cos, sin, speed"),
    (["--goal", "1,0,0", "--weight", "effort=1"], 2, "cost term"),
    (["--goal", "1,0,0", "--weight", "goal=much"], 2, "TERM=NUMBER"),
    (["--goal", "1,0,0", "--episodes", "0"], 2, "at least one episode"),
    (["--goal", "1,0,0", "--env", "CartPole-v1"], 1, "a model that was trained for this world"),
    (["--goal", "1,0,0", "--env", "Pendlum-v1"], 2, "Gymnasium"),
    (["--goal", "1,0,0", "--checkpoint", "step-9"], 1, "step-9"),
]


@pytest.mark.parametrize(("words", "code", "says"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_what_does_not_fit_the_agent_is_refused_in_one_line(
    words: list[str], code: int, says: str, pendulum: Path, steersman: Callable, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    env = [] if "--env" in words else ["--env", "Pendulum-v1"]
    ended = steersman("run", str(pendulum), *env, *words)
    assert ended.code == code
    assert len(ended.err.splitlines()) == 1
    assert says in ended.err


def test_another_planner_than_the_runs_own_and_a_graph_from_its_log(pendulum: Path, steersman: Callable) -> None:
    follow = '{"type": "cem", "samples": 8, "iterations": 1, "elites": 2, "horizon": 3}'
    astar = f'{{"type": "astar", "graph": {{"nodes": 30}}, "follow": {follow}}}'
    words = ["run", str(pendulum), "--env", "Pendulum-v1", "--episodes", "1", "--planner"]
    ended = steersman(*words, astar, "--goal", "1,0,0")
    assert ended.code == 0, ended.err
    assert (pendulum / "memory" / "graph.safetensors").exists()
    assert "remembered states" in steersman("why", f"{pendulum}:5").out
    columns = steersman(*words, astar, "--goal", "cos=1")
    assert columns.code == 0, columns.err
    assert "remembered states" in steersman("why", f"{pendulum}:5").out
    unknown = steersman(*words, "dijkstra", "--goal", "cos=1")
    assert unknown.code == 2
    assert "a planner of astar, augmented-lagrangian" in unknown.err
    wrong = steersman(*words, '{"type": "cem", "samplse": 3}', "--goal", "cos=1")
    assert "samplse" in wrong.err


def test_a_way_out_by_name_is_a_planner_like_any_other(pendulum: Path, steersman: Callable) -> None:
    inner = '{"type": "icem", "samples": 8, "iterations": 1, "elites": 2, "horizon": 3}'
    backup = (f'{{"type": "backup", "planner": {inner}, "steps": 16, "directions": 2, "rounds": 0, "manoeuvre": '
              '{"type": "brake", "columns": ["speed"], "gain": 2.0}, "rest": {"type": "box", "limits": '
              '{"speed": [-9, 9]}}}')
    words = ["run", str(pendulum), "--env", "Pendulum-v1", "--goal", "cos=1", "--keep", "speed<=6", "--episodes", "1",
             "--planner"]
    ended = steersman(*words, backup)
    assert ended.code == 0, ended.err
    assert steersman("replay", f"{pendulum}:4").code == 0
    wrong = steersman(*words, '{"type": "backup", "manoeuvre": {"type": "brake", "columns": ["torque"]}}')
    assert "speeds to brake among cos, sin, speed; got torque" in wrong.err
