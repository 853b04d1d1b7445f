"""What people see: tables that align, progress with ETA, data wait, gauges and probe, one JSON object for machines."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steersman.cli import progress as progress_module
from steersman.cli.done import Done
from steersman.cli.progress import Watcher, gauge_words
from steersman.cli.terminal import Terminal, cells, pad
from steersman.runs.artefacts import Column, Figure, Row, Table


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def step(number: int, steps: int = 100, **gauges: float) -> Any:
    return SimpleNamespace(step=number, steps=steps, loss=10.0 / number, parts={"prediction": 0.5}, data_wait=0.03,
                           gauges=gauges, eta_seconds=83.0, advice=None)


@pytest.fixture
def table() -> Table:
    columns = (Column(key="s", title="success", form="share"), Column(key="t", title="time", form="seconds"))
    return Table(name="t", title="Goals", columns=columns, protocol={"episodes": 200}, notes=("Wilson.",), rows=(
        Row(label="planner", group="seen", figures={"s": Figure(value=1.0, low=0.981, high=1.0),
                                                    "t": Figure(value=0.2)}),
        Row(label="随机 walker", group="seen", kind="baseline",
            figures={"s": Figure(value=0.055, low=0.031, high=0.1)}),
    ))


def test_a_table_aligns_its_columns_whatever_the_letters(table: Table) -> None:
    stream = io.StringIO()
    Terminal(stream=stream).table(table)
    lines = stream.getvalue().splitlines()
    assert lines[1] == "Goals  episodes 200"
    agent, random = (next(line for line in lines if name in line) for name in ("planner", "walker"))
    assert cells(agent) == cells(random)
    assert "100.0%  98.1–100.0" in agent
    assert random.endswith("–")
    assert lines[-1] == "  Wilson."
    assert "\x1b" not in stream.getvalue()


def test_colours_only_where_they_are_wanted(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = Screen()
    Terminal(stream=coloured).table(table)
    assert "\x1b[1m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Screen()
    Terminal(stream=plain).table(table)
    assert "\x1b" not in plain.getvalue()


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str], table: Table) -> None:
    terminal = Terminal(json=True)
    terminal.say("for people")
    terminal.table(table)
    terminal.finish(Done({"a": np.float32(0.5), "b": np.arange(3), "c": float("nan")}))
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": 0.5, "b": [0, 1, 2], "c": None}
    assert out.count("\n") == 1
    assert "for people" in err


def test_plain_progress_is_a_line_every_few_seconds_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Watcher(Terminal(stream=stream)) as watcher:
        for i in range(1, 101):
            now[0] += 0.2
            watcher(step(i, std_mean=0.9, std_least=0.4, effective_rank=31.0, **{"probe/x": 1.25}))
    lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) <= 6
    assert lines[-1] == ("step 100/100 (100%), 1:23 left, loss 0.1, data wait 3%, std 0.90 (least 0.40), rank 31.0, "
                         "probe x ±1.25")


def test_live_progress_shows_everything_and_leaves_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Screen()
    with Watcher(Terminal(stream=stream)) as watcher:
        watcher.count("reading", 10, 10)
        for i in (1, 50, 100):
            watcher(step(i, std_mean=0.9, std_least=0.4, effective_rank=31.0, **{"probe/x": 1.25}))
        watcher.say("after")
    text = stream.getvalue()
    for words in ("reading", "training", "100/100", "1:23 left", "data wait 3%", "rank 31.0", "prediction", "x ±1.25"):
        assert words in text, words
    assert text.rstrip().endswith("after")


def test_counting_without_a_known_end() -> None:
    stream = io.StringIO()
    with Watcher(Terminal(stream=stream)) as watcher:
        watcher.count("reading", 5, None)
        watcher.count("reading", 2000, 2000)
    assert stream.getvalue() == "reading: 2,000 of 2,000 (100%)\n"


def test_no_gauges_are_no_words() -> None:
    assert gauge_words({}) == []


def test_advice_is_said_once_in_lines_and_stands_in_the_live_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for stream in (io.StringIO(), Screen()):
        with Watcher(Terminal(stream=stream)) as watcher:
            for i in (1, 50, 100):
                now[0] += 10
                advised = step(i, std_mean=0.0)
                advised.advice = "all the same: raise VICReg.Config.variance"
                watcher(advised)
        text = stream.getvalue()
        assert "raise VICReg.Config.variance" in text
        assert isinstance(stream, Screen) or text.count("raise VICReg") == 1


def test_padding_counts_columns_of_the_terminal() -> None:
    assert cells("随机") == 4
    assert pad("随机", 6, right=True) == "  随机"
