"""metrics.jsonl: append-only, survives a torn last line, goes back to where a checkpoint was."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from steersman.core import RunError, StorageError
from steersman.runs import Metrics


@pytest.fixture
def open_metrics(tmp_path: Path) -> Metrics:
    m = Metrics(tmp_path / "metrics.jsonl")
    m.begin()
    return m


def test_lines_come_back_in_order_and_exactly(open_metrics: Metrics) -> None:
    values = [0.1, 1 / 3, 1e-300, -0.0, 12345678.90625]
    for i, value in enumerate(values):
        open_metrics.append(i, {"part/a": value}, loss=value)
    assert [(r["step"], r["loss"], r["part/a"]) for r in open_metrics.read()] == [
        (i, v, v) for i, v in enumerate(values)
    ]


def test_nan_and_infinity_become_null(open_metrics: Metrics) -> None:
    open_metrics.append(1, a=math.nan, b=math.inf)
    assert open_metrics.read() == [{"step": 1, "a": None, "b": None}]


def test_a_line_torn_anywhere_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, second = b'{"step":1,"loss":0.5}\n', b'{"step":2,"loss":0.25}\n'
    for cut in range(len(second)):
        path.write_bytes(first + second[:cut])
        assert Metrics(path).read() == [{"step": 1, "loss": 0.5}]
        m = Metrics(path)
        m.begin()
        m.append(2, loss=1.0)
        m.end()
        assert [r["loss"] for r in Metrics(path).read()] == [0.5, 1.0]


def test_rewind_forgets_what_came_after_a_checkpoint(open_metrics: Metrics) -> None:
    positions = [open_metrics.position]
    for i in range(1, 2000):
        open_metrics.append(i, loss=i * 0.1, text="x" * (i % 90))
        positions.append(open_metrics.position)
    for keep in (1500, 3, 0):
        open_metrics.rewind(positions[keep])
        assert len(open_metrics.read()) == keep
        open_metrics.append(keep + 1, loss=0.0)
        assert open_metrics.read()[-1]["step"] == keep + 1
    open_metrics.rewind(10**9)  # metrics that were lost do not stop a resume
    assert len(open_metrics.read()) == 1


def test_a_full_disk_leaves_whole_lines(open_metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    open_metrics.append(1, loss=0.5)
    real = os.write

    def short(fd: int, data: bytes) -> int:
        real(fd, bytes(data[:9]))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("steersman.runs.files.os.write", short)
        with pytest.raises(StorageError, match="no space left"):
            open_metrics.append(2, loss=0.25)
    open_metrics.append(3, loss=0.125)
    assert [r["step"] for r in open_metrics.read()] == [1, 3]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":?}\n{"step":3}\n')
    with pytest.raises(RunError, match="line 2 of"):
        Metrics(path).read()


def test_appending_needs_the_writer(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.writer\(\)"):
        Metrics(tmp_path / "metrics.jsonl").append(1, loss=0.0)
    assert Metrics(tmp_path / "metrics.jsonl").read() == []
