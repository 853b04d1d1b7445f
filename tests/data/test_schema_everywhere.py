"""What is known of columns goes with a log from format to format; a schema means the same in all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steersman.core import ActionSpec, ObservationSpec, Recording, Signature, UsageError
from steersman.data import Column, ReadOptions, Schema, convert, load, read, resample, write
from steersman.data.source import Source

KNOWN = Schema.parse("""
    sampling_period = 0.5
    embargo = 3
    [columns]
    clock = { role = "time", unit = "s" }
    temp = { role = "observation", unit = "°C", range = [-90.0, 90.0] }
    lab = { role = "observation", unit = "mol/l", update_period = 2.5 }
    valve = { role = "action", unit = "%", range = [-5.0, 5.0] }
    gear = { role = "action", range = [-5.0, 5.0], whole = true }
    feed = { role = "exogenous", unit = "kg/h" }
""")
UNITS = {"temp": "°C", "lab": "mol/l", "valve": "%", "feed": "kg/h"}
TARGETS = {
    "a.csv": "csv", "a.parquet": "parquet", "a.h5": "hdf5", "a.npz": "npz", "a-v0": "minari",
    "a-arrow": "minari-arrow", "a": "lerobot",
}


def reactor(path: Path) -> Source:
    noise = np.random.default_rng(0).normal(size=(60, 4)).round(4)
    rows = ["clock,temp,lab,valve,gear,feed"]
    rows += [
        f"{i / 2},{t},{noise[i // 5 * 5, 1]},{v},{i % 3},{f}" for i, (t, _, v, f) in enumerate(noise.tolist())
    ]
    path.write_text("\n".join(rows) + "\n")
    return read(path, ReadOptions(schema=KNOWN))


def test_units_ranges_and_periods_go_through_every_format(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("av")
    source = reactor(tmp_path / "log.csv")
    original = list(source.recordings())
    for name, format in TARGETS.items():
        convert(source, tmp_path / name, format)
        back = read(tmp_path / name)
        assert back.signature == source.signature, name
        assert back.schema is not None
        units = {label: unit for label, unit in back.schema.units().items() if label not in ("time", "step")}
        assert units == UNITS, name
        assert back.schema.sampling_period == 0.5
        assert back.schema.embargo == 3
        columns = {back.schema.label(c): column for c, column in back.schema.columns.items()}
        assert columns["temp"].range == (-90.0, 90.0)
        assert columns["lab"].update_period == 2.5
        for a, b in zip(back.recordings(), original, strict=True):
            assert set(a.measured) == set(b.measured)
            for key, known in b.measured.items():
                assert np.array_equal(a.measured[key], known), name
            for key, value in b.observations.items():
                assert np.array_equal(a.observations[key], value)
        source = back  # on to the next format
    dataset = load(source.path, tmp_path / "cache")
    assert dataset.schema is not None
    assert dataset.schema.units() | UNITS == dataset.schema.units()


def camera_log() -> tuple[Signature, Recording]:
    signature = Signature(
        {"state": ObservationSpec("vector", (3,)), "cam": ObservationSpec("image", (32, 48, 3))},
        ActionSpec("continuous", (-1.0,), (1.0,)),
    )
    rng = np.random.default_rng(0)
    times = np.concatenate([np.arange(10) * 0.1, 5 + np.arange(8) * 0.1])
    shades = np.arange(18, dtype=np.uint8)[:, None, None, None] * 10
    frames = np.broadcast_to(shades, (18, 32, 48, 3)).copy()
    state = rng.normal(size=(18, 3)).astype(np.float32)
    return signature, Recording(
        {"state": state, "cam": frames}, rng.uniform(-1, 1, (17, 1)).astype(np.float32), None, times)


@pytest.mark.parametrize("name", ["log.h5", "log.npz", "log-v0", "folder"])
def test_a_schema_gives_roles_and_gaps_to_logs_that_are_no_tables(tmp_path: Path, name: str) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("av")
    signature, log = camera_log()
    path = write(tmp_path / name, signature, [log, log], None if "." in name or "-" in name else name)
    known = read(path).schema
    assert known is not None
    camera = "cam" if name == "folder" else "observation.cam"
    assert known.columns[camera].shape == (32, 48, 3)
    change = {
        "observation.state.0": Column(role="observation", label="angle", unit="rad"),
        "observation.state.1": Column(role="exogenous", label="wind"),
        "observation.state.2": Column(role="ignored"),
        camera: Column(role="observation", observation="front"),
    }
    schema = Schema(columns=known.columns | change, gap=1.5)
    source = read(path, ReadOptions(schema=schema))
    assert source.signature.observations["front"].shape == (32, 48, 3)
    assert source.signature.observations["vector"].columns == ("angle",)
    assert source.signature.exogenous == ("wind",)
    back = list(source.recordings())
    assert [len(r) for r in back] == [9, 7, 9, 7]  # the gap ends episodes
    for recording, first in zip(back, (0, 10, 0, 10), strict=True):
        shades = recording.observations["front"].reshape(len(recording) + 1, -1).mean(1) / 10
        assert np.abs(shades - first - np.arange(len(shades))).max() < 0.5  # frames follow their rows
        rows = slice(first, first + len(recording) + 1)
        assert np.array_equal(recording.observations["vector"][:, 0], log.observations["state"][rows, 0])
    assert source.schema is not None
    assert source.schema.units()["angle"] == "rad"
    assert source.fingerprint != read(path).fingerprint
    blind = Schema(columns={n: c for n, c in schema.columns.items() if n != camera})
    assert set(read(path, ReadOptions(schema=blind)).signature.observations) == {"vector"}
    with pytest.raises(UsageError, match="images to be observed"):
        read(path, ReadOptions(schema=Schema(columns=known.columns | {camera: Column(role="action")})))


def test_resampling_keeps_what_is_known_and_states_the_new_period(tmp_path: Path) -> None:
    source = reactor(tmp_path / "log.csv")
    even = resample(source, 0.25).source
    done = convert(even, tmp_path / "even.npz")
    back = read(done.path)
    assert back.schema is not None
    assert back.schema.sampling_period == 0.25
    assert back.schema.units()["lab"] == "mol/l"
