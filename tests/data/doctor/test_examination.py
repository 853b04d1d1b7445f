"""The doctor finds what was planted, invents nothing, and looks at logs that training refuses."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from steersman.core import DataError
from steersman.data.doctor import Report, diagnose, examine, lay_out
from steersman.data.doctor import regression as r
from steersman.data.source import ReadOptions
from steersman.evidence.doctor_faults import FAULTS
from steersman.evidence.doctor_worlds import WORLDS, Columns, linear, pendulum
from steersman.studio.diagnosis import diagnosis


def looked_at(columns: Columns) -> Report:
    table = pa.table({name: pa.array(value) for name, value in columns.items()})
    return diagnose(*lay_out(table, ReadOptions(), "a log"))


@pytest.mark.parametrize("name", [
    "missing values", "lost rows", "a copied column", "saturated actions", "a delay", "shuffled actions",
    "copied episodes", "the future in a column", "interleaved episodes", "a slow column", "a stuck sensor",
])
def test_a_planted_fault_is_named(name: str) -> None:
    g, fault = np.random.default_rng(3), FAULTS[name]
    report = looked_at(fault.plant(pendulum(g, 30, 80), g, fault.strengths[-1]))
    assert {f.kind for f in report.findings} & set(fault.says)


def test_nothing_is_invented_about_a_clean_log() -> None:
    for world in ("pendulum", "walls"):
        report = looked_at(WORLDS[world](np.random.default_rng(7)))
        assert not report.alarms, report.alarms
        assert report.dynamics.controlled


def test_what_the_action_does_is_measured_not_assumed() -> None:
    clean = linear(np.random.default_rng(0), 30, 100)
    d = looked_at(clean).dynamics
    assert d.delay == 0
    assert d.controllability > 0.5
    assert d.horizon >= 1
    order = np.random.default_rng(1).permutation(len(clean["t"]))
    report = looked_at(clean | {n: clean[n][order] for n in ("action.0", "action.1")})
    assert not report.dynamics.controlled
    assert report.dynamics.controllability == 0


def test_a_useless_input_gains_nothing_and_a_useful_one_does() -> None:
    g = np.random.default_rng(0)
    x, noise = g.normal(size=(1000, 2)).astype(np.float32), g.normal(size=(1000, 3)).astype(np.float32)
    y = x[:, :1] ** 2
    blocks = r.blocked(np.arange(1000) // 25)
    before = r.held_out((x,), y, blocks)
    assert float(r.gain(before, r.held_out((x, noise), y, blocks), blocks).evidence[0]) < 3
    useful = r.gain(before, r.held_out((x, r.features(x)), y, blocks), blocks)
    assert float(useful.share[0]) > 0.9
    assert float(useful.evidence[0]) > 6


def test_logs_that_training_refuses_are_examined_all_the_same(tmp_path: Path) -> None:
    columns = pendulum(np.random.default_rng(0), 8, 60)
    columns["cos"] = np.where(np.arange(480) == 100, np.nan, columns["cos"])
    columns["t"] = np.where(np.arange(480) == 200, 0.0, columns["t"])
    columns["episode"] = np.where(np.arange(480) == 479, 99, columns["episode"])
    path = tmp_path / "log.csv"
    pc.write_csv(pa.table(columns), path)
    report = examine(path)  # in the parser's process
    kinds = {f.kind for f in report.findings}
    assert {"missing-values", "time-goes-back", "one-row-episodes"} <= kinds
    assert not report.trainable
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    page = diagnosis(report)
    assert "Repair the log first" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    (tmp_path / "one.csv").write_text("x,action\n1,2\n")
    with pytest.raises(DataError, match="2 rows"):
        examine(tmp_path / "one.csv")
