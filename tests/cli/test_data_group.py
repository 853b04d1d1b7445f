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
    assert steersman("data", "convert", "log.csv", "log.unknown").code == 2
