"""Columns read off what was observed and off what was imagined stand beside the truth, where the log has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from filmed_dot import agent_of, log_of

from steersman.data import Dataset
from steersman.evaluation.imagined_film import foresee
from steersman.evaluation.readout_lines import readout_lines
from steersman.runs.artefacts import Lines


def figures(log: Dataset, gain: float) -> list[Lines]:
    agent = agent_of(gain)
    assert agent.readout is not None
    return readout_lines(foresee(agent, log, 0), agent.readout, log.signature, "column", "an episode of a log")


def test_all_three_agree_where_the_model_is_exact(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 2, 12, labelled=True)
    found = figures(log, 1.0)
    assert [x.name for x in found] == ["column-0", "column-1"]
    assert [x.title for x in found] == ["x", "y"]
    for i, figure in enumerate(found):
        truth, seen, imagined = figure.lines
        assert [line.label for line in figure.lines] == ["truth", "from frames", "imagined"]
        assert truth.y == tuple(log.episode(0).observations["vector"][:, i].tolist())
        assert seen.y == pytest.approx(truth.y, abs=1e-2)
        assert imagined.y == pytest.approx(truth.y, abs=1e-2)
        assert truth.x == tuple(float(t) for t in range(13))


def test_a_wrong_model_is_told_apart_from_its_own_eyes(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 2, 12, labelled=True)
    for i, figure in enumerate(figures(log, 0.0)):
        truth, seen, imagined = figure.lines
        assert seen.y == pytest.approx(truth.y, abs=1e-2)
        assert imagined.y == pytest.approx([truth.y[0]] * 13, abs=1e-2)
        still = log.episode(0).observations["vector"][:, i]
        off = float((still - still[0]).square().mean().sqrt())
        assert f"{off:.2g} imagined from the first moment alone, {off:.2g} had nothing changed" in figure.caption


def test_where_the_log_does_not_tell_the_frames_stand_for_it(tmp_path: Path) -> None:
    for figure in figures(log_of(tmp_path / "log", 2, 12), 1.0):
        assert [line.label for line in figure.lines] == ["from frames", "imagined"]
        assert figure.caption.startswith("An episode of a log. Off what is read from the frames by ")
        assert figure.caption.endswith("Its log does not tell the truth.")
