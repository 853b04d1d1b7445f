"""A log of each world of ours, a run, its protocol, by the commands alone: floor, interval, violations, limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.runs import Run
from steersman.runs.artefacts import Table, read_all

SMALL = ["--set", "steps=2", "--set", "batch_size=4", "--set", "agent.planner.samples=8", "--set",
         "agent.planner.iterations=1", "--set", "agent.planner.elites=2", "--set", "agent.planner.horizon=3"]


@pytest.mark.parametrize(("world", "forbidden"), [
    ("corridor", "swept off the bridge"), ("grid", ""), ("lqr", ""), ("hazards", "hit something"),
    ("reactor", "hotter than 140 °C"),
])
def test_a_run_is_measured_in_its_own_world(steersman: Callable, world: str, forbidden: str) -> None:
    length = "8" if world == "corridor" else "12"
    assert steersman("collect", world, "--episodes", "12", "--length", length, "--out", "log").code == 0
    trained = steersman("train", "--recipe", "vectors", "--data", "log", "--out", "run", *SMALL)
    assert trained.code == 0, trained.err
    ended = steersman("evaluate", "run", "--episodes", "3", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert (facts["protocol"], facts["episodes"], facts["solved_at_start"]) == (world, 3, 0)
    assert facts["success_ci95"][0] <= facts["success"] <= facts["success_ci95"][1]
    assert 0 <= facts["random_success"] <= 1
    assert ("violations_ci95" in facts) == ("random_violations" in facts) == bool(forbidden)
    assert ("spl" in facts) == (world == "grid")
    (table,) = [t for t in read_all(Run.open("run").path, Table)[0] if t.name != "collapse"]
    assert [row.kind for row in table.rows] == ["agent", "baseline"]
    titles = [column.title for column in table.columns]
    assert titles[4 if world == "grid" else 3 :] == ([forbidden] if forbidden else [])
    assert all(set(row.figures) >= {"success", *(["violated"] if forbidden else [])} for row in table.rows)


def test_a_gymnasium_task_has_a_protocol_and_limits_are_told(pendulum: Path, steersman: Callable) -> None:
    ended = steersman("evaluate", pendulum, "--episodes", "2", "--keep", "speed<=0.0001", "--keep", "speed>=-0.0001",
                      "--json")
    assert ended.code == 0, ended.err
    assert ended.json["protocol"] == "pendulum"
    assert ended.json["infeasible_decisions"] > 0
    assert "found no plan within speed<=0.0001, speed>=-0.0001" in ended.err
    assert steersman("evaluate", pendulum, "--protocol", "attic").code == 2
    facts = [steersman("evaluate", pendulum, "--episodes", "2", "--json").json for _ in range(2)]
    first, same = ({k: v for k, v in x.items() if k != "planning_seconds"} for x in facts)
    assert first == same
    other = steersman("evaluate", pendulum, "--protocol", "hazards")
    assert other.code == 1
    assert "`--offline` measures from the log alone" in other.err
