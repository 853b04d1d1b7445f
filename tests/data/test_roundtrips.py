"""read(write(x)) = x for every lossless format: exogenous inputs, choices, images, names, times, several episodes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman.core import ActionSpec, ObservationSpec, Recording, Signature
from steersman.core.recording import Array
from steersman.data import convert, read, write

LOSSLESS = {
    "log.csv": "csv", "log.parquet": "parquet", "log.h5": "hdf5", "log.npz": "npz", "log-v0": "minari",
    "log-arrow": "minari-arrow", "log": "lerobot",
}
WITHOUT_IMAGES = {"log.csv", "log"}
"""CSV has no place for them, LeRobot keeps them as video."""
REGULAR = {"log"}
"""LeRobot has one rate for all rows."""
LARGE = float(np.float32(1e30))


@st.composite
def logs(draw: st.DrawFn, images: bool, regular: bool) -> tuple[Signature, list[Recording]]:
    observations = {"state": ObservationSpec("vector", (draw(st.integers(1, 3)),))}
    if draw(st.booleans()):
        observations["named one"] = ObservationSpec("vector", (2,), ("x.y", "Ünits [m/s]"))
    if images and draw(st.booleans()):
        observations["cam"] = ObservationSpec("image", (draw(st.integers(1, 4)), 5, draw(st.sampled_from([1, 3]))))
    if draw(st.booleans()):
        action = ActionSpec("discrete", choices=draw(st.integers(1, 40)))
    else:
        size = draw(st.integers(1, 2))
        names = ("push", "turn")[:size] if draw(st.booleans()) else ()
        action = ActionSpec("continuous", (-LARGE,) * size, (LARGE,) * size, names=names)
    signature = Signature(observations, action, draw(st.sampled_from([(), ("load",), ("load", "wind")])))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    timed = draw(st.booleans())
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return signature, [recording(signature, steps, random, timed, regular) for steps in lengths]


def recording(
    signature: Signature, steps: int, random: np.random.Generator, timed: bool, regular: bool = False
) -> Recording:
    def floats(*shape: int) -> Array:
        """Of every size that float32 has."""
        return (random.uniform(-9.9, 9.9, shape) * 10.0 ** random.integers(-30, 29, shape)).astype(np.float32)

    observed = {
        name: random.integers(0, 256, (steps + 1, *spec.shape), np.uint8) if spec.kind == "image"
        else floats(steps + 1, *spec.shape) for name, spec in signature.observations.items()
    }
    action = signature.action
    acted = random.integers(0, action.choices, (steps, 1)) if action.kind == "discrete" else floats(steps, action.size)
    inputs = floats(steps, len(signature.exogenous)) if signature.exogenous else None
    gaps = np.full(steps + 1, 0.04) if regular else random.uniform(0.001, 0.1, steps + 1)
    times = 3.0 + np.cumsum(gaps) if timed else None
    return Recording(observed, acted, inputs, times)


def same(a: Recording, b: Recording) -> None:
    assert set(a.observations) == set(b.observations)
    pairs = [(a.observations[n], b.observations[n]) for n in a.observations]
    pairs += [(a.actions, b.actions), (a.exogenous, b.exogenous), (a.times, b.times)]  # type: ignore[list-item]
    for x, y in pairs:
        assert (x is None) == (y is None)
        if x is not None:
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_is_read_back(name: str, data: st.DataObject) -> None:
    signature, log = data.draw(logs(name not in WITHOUT_IMAGES, name in REGULAR))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, signature, log, format=LOSSLESS[name])
        source = read(path)
        assert source.format == LOSSLESS[name].removesuffix("-arrow")
        assert source.signature == signature
        assert source.steps == sum(map(len, log))
        assert source.notes == ()
        for _ in range(2):
            for back, original in zip(source.recordings(), log, strict=True):
                same(back, original)


def test_a_log_goes_through_every_lossless_format_unchanged(tmp_path: Path) -> None:
    action = ActionSpec("continuous", (-1e30, -1e30), (1e30, 1e30), names=("a", "b"))
    signature = Signature({"s": ObservationSpec("vector", (3,))}, action, ("load",))
    random = np.random.default_rng(0)
    log = [recording(signature, steps, random, True, True) for steps in (5, 1, 3)]
    path = write(tmp_path / "first.npz", signature, log)
    for name in [*LOSSLESS, *reversed(LOSSLESS)]:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}-{name}"
        done = convert(read(path), target, format=LOSSLESS[name])
        assert (done.episodes, done.steps) == (3, 9)
        path = target
    for back, original in zip(read(path).recordings(), log, strict=True):
        same(back, original)
