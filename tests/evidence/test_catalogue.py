"""The catalogue of experiments, and what performing one leaves behind."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from steersman import evidence
from steersman.core.errors import RunError, UsageError
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table, read_all

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def experiment(context: evidence.Context) -> evidence.Outcome:
    (context.run / "seed-0").mkdir()
    context.say("working")
    table = Table(name="result", title="Result", columns=(Column(key="x", title="x"),),
                  rows=(Row(label="random", kind="baseline", figures={"x": Figure(value=0.1)}),))
    picture = Picture(name="result", title="Result", file="result.png", alt="a point")
    return evidence.Outcome({"x": np.float32(0.5), "xs": np.arange(2)}, (table,), ((picture, {"result.png": PIXEL}),))


def test_an_experiment_leaves_its_figures_its_table_a_picture_and_a_report(tmp_path: Path) -> None:
    said: list[str] = []
    context = evidence.Context(tmp_path / "run", 3, said.append)
    result, outcome = evidence.perform("thing", experiment, context)
    run = Run.open(tmp_path / "run")
    assert result.figures == {"x": 0.5, "xs": [0, 1]}
    assert run.read_json("evidence.json") == msgspec.to_builtins(result)
    assert set(msgspec.to_builtins(result)) == {"name", "seed", "figures", "seconds", "run"}
    assert read_all(run.path, Table)[0] == list(outcome.tables)
    assert len(read_all(run.path, Picture)[0]) == 1
    assert "Result" in (run.report_dir / "report.html").read_text()
    assert said == ["working"]


def test_an_experiment_never_writes_over_another(tmp_path: Path) -> None:
    evidence.perform("thing", experiment, evidence.Context(tmp_path / "run", 0))
    with pytest.raises(RunError, match="choose another name"):
        evidence.perform("thing", experiment, evidence.Context(tmp_path / "run", 0))


def test_an_unknown_experiment_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'pendulum'"):
        evidence.experiment("pendlum")
