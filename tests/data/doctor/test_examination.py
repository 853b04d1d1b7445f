"""The doctor finds what was planted, invents nothing, and looks at logs that training refuses."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from steersman.core import DataError
from steersman.data.doctor import Finding, Report, columns, diagnose, examine, frames, lay_out
from steersman.data.doctor import regression as r
from steersman.data.doctor.rows import Rows
from steersman.data.source import ReadOptions
from steersman.evidence.doctor import GROUPS, tabled
from steersman.evidence.doctor_faults import FAULTS
from steersman.evidence.doctor_pictures import CAMERA_FAULTS, filmed_pendulum
from steersman.evidence.doctor_worlds import WORLDS, Columns, linear, pendulum
from steersman.studio.diagnosis import diagnosis


def looked_at(c: Columns) -> Report:
    return diagnose(*laid_out(c))


def laid_out(c: Columns) -> tuple[Rows, list[Finding]]:
    return lay_out(tabled(c), ReadOptions(), "a log")


@pytest.mark.parametrize("name", [
    "missing values", "a copied column", "a delay", "copied episodes", "the future in a column", "a hidden speed",
    "a sensor that dies", "rounded values", "swapped columns from some row on", "another rate in some episodes",
    "the next episode's first row",
])
def test_a_planted_fault_is_named(name: str) -> None:
    g, fault = np.random.default_rng(3), next(group[name] for group in GROUPS.values() if name in group)
    report = looked_at(fault.plant(pendulum(g, 25, 60), g, fault.strengths[-1]))
    assert {f.kind for f in report.findings} & set(fault.says)


@pytest.mark.parametrize("name", list(CAMERA_FAULTS))
def test_a_fault_of_the_camera_is_named(name: str) -> None:
    g, fault = np.random.default_rng(3), CAMERA_FAULTS[name]
    rows, _ = laid_out(fault.plant(filmed_pendulum(g), g, fault.strengths[-1]))
    assert {f.kind for f in frames.examine(rows)} & set(fault.says)


def test_an_angle_that_starts_anew_is_not_taken_for_a_leap() -> None:
    for strength in (1, 180):
        g, fault = np.random.default_rng(5), FAULTS["an angle that starts anew"]
        rows, _ = laid_out(fault.plant(pendulum(g, 25, 60), g, strength))
        assert {f.kind for f in columns.examine(rows)} == {"wrapped-angle"}


def test_what_an_action_does_shows_beside_the_past_where_speeds_are_not_logged() -> None:
    c = pendulum(np.random.default_rng(0), 25, 60)
    d = looked_at({n: v for n, v in c.items() if n != "speed"}).dynamics
    assert d.history
    assert d.controllability > 0.5
    assert set(d.controlled) == {"cos", "sin"}


def test_nothing_is_invented_about_a_clean_log() -> None:
    for world in ("pendulum", "walls"):
        report = looked_at(WORLDS[world](np.random.default_rng(7), 40, 60))
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
    c = pendulum(np.random.default_rng(0), 8, 60)
    c["cos"] = np.where(np.arange(480) == 100, np.nan, c["cos"])
    c["t"] = np.where(np.arange(480) == 200, 0.0, c["t"])
    c["episode"] = np.where(np.arange(480) == 479, 99, c["episode"])
    path = tmp_path / "log.csv"
    pc.write_csv(pa.table(c), path)
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
