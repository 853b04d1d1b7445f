"""`data schema`, `data doctor` and `init` at work on a log, one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from steersman.cli.logs import LogOptions, words_of
from steersman.data import Schema


def test_from_a_log_to_a_recipe_that_trains(steersman: Callable, log: Path) -> None:
    ended = steersman("data", "schema", "log.csv", "--out", "schema.toml")
    assert ended.code == 0, ended.err
    assert Schema.load("schema.toml").action
    assert steersman("data", "schema", "log.csv", "--out", "schema.toml").code == 2  # the name is in use
    ended = steersman("data", "doctor", "log.csv", "--schema", "schema.toml", "--html", "page.html", "--json")
    assert ended.json["format"] == "csv"
    assert ended.json["verdict"] in Path("page.html").read_text()
    ended = steersman("init", "--data", "log.csv", "--schema", "schema.toml", "--out", "mine.py", "--json")
    assert ended.code == 0, ended.err
    following = shlex.split(ended.json["next"])  # what it says to type next
    assert following[:2] == ["steersman", "train"]
    ended = steersman(*following[1:], "--dry-run", "--set", "batch_size=4", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["steps"] > 0
    Path("broken.py").write_text("recipe = 1 / 0")
    ended = steersman("train", "--recipe", "broken.py", "--data", "log.csv")
    assert ended.code == 2
    assert "ZeroDivisionError" in ended.err


def test_what_was_said_about_a_log_is_said_again_in_the_next_command() -> None:
    assert words_of(LogOptions()) == ""
    said = LogOptions(observation=("Room Temp [°C]", "x"), action=("it's",), sort=True, low=(-1.5,), high=(2.0,),
                      time="timestamp", format="csv")
    words = words_of(said)
    assert shlex.split(words) == [
        "--observation", "Room Temp [°C]", "x", "--action", "it's", "--time", "timestamp", "--sort", "--low", "-1.5",
        "--high", "2.0", "--format", "csv",
    ]
