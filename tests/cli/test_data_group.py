"""The group `steersman data`: what it lists, how it refuses, and `data convert` at work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steersman import data


def test_a_group_lists_its_commands_and_refuses_others(steersman: Callable) -> None:
    for words in (["data"], ["data", "--help"]):
        ended = steersman(*words)
        assert ended.code == 0
        assert "\n  data convert  " in ended.out
    ended = steersman("data", "convrt", "a", "b")
    assert ended.code == 2
    assert "did you mean `data convert`?" in ended.err


def test_a_log_becomes_one_of_another_format(steersman: Callable, log: Path) -> None:
    ended = steersman("data", "convert", "log.csv", "log.parquet", "--low", "-1", "--high", "1", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert (facts["from"], facts["format"], facts["episodes"], facts["steps"]) == ("csv", "parquet", 3, 87)
    source = data.read("log.parquet")
    assert source.steps == 87
    assert source.signature.action.low == (-1.0,)
    assert steersman("data", "--json", "convert", "log.csv", "log.parquet").code == 2  # the name is in use
    ended = steersman("data", "convert", "log.csv", "even.npz", "--time", "x", "--period", "0.1")
    assert ended.code == 1
    assert "'x' to increase" in ended.err
    Path("timed.csv").write_text("time,x,push\n" + "".join(f"{30 * i},{i},{i % 3}.5\n" for i in range(9)))
    ended = steersman("data", "convert", "timed.csv", "even.npz", "--action", "push", "--period", "0.06",
                      "--time-unit", "0.001")
    assert ended.code == 0, ended.err
    assert "9 rows became 5 (5 kept, 0 moved, 0 made, 4 dropped); largest gap 0.03 s" in ended.out
    assert data.read("even.npz").steps == 4
    assert steersman("data", "convert", "log.csv", "log.unknown").code == 2
