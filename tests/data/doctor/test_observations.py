"""The doctor looks at pictures, fields, waveforms and tokens: each planted fault is named, nothing is invented about a
sound log, and what makes no sense without an action is left out, in words."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

sys.path.append(str(Path(__file__).parent.parent))
from kinds import logs

from steersman.core import ActionSpec, ObservationSpec, Recording, Signature
from steersman.core.recording import Array
from steersman.data import write
from steersman.data.doctor import Report, examine
from steersman.data.doctor.tokens import _hashes
from steersman.studio.diagnosis import diagnosis

NONE = ActionSpec("none")
RATE = 8000.0
FIELD = ObservationSpec("field", (32, 32, 1), channels=("heat",), periodic=(True, True))
WAVE = ObservationSpec("waveform", (400, 1), rate=RATE)
TEXT = ObservationSpec("tokens", (32,), vocabulary=256)
PICTURE = ObservationSpec("image", (16, 16, 3))


def heat(episodes: int = 6, steps: int = 10, seed: int = 0) -> list[Array]:
    """Heat that spreads on a torus: (steps + 1, 32, 32, 1), its mean conserved."""
    random = np.random.default_rng(seed)
    k = 2 * np.pi * np.fft.fftfreq(32)
    rate = k[:, None] ** 2 + k**2
    found = []
    for _ in range(episodes):
        start = np.fft.fft2(random.normal(size=(32, 32))) * np.exp(-6 * rate)
        flow = [np.fft.ifft2(start * np.exp(-0.8 * t * rate)).real for t in range(steps + 1)]
        found.append(np.stack(flow)[..., None].astype(np.float32) + np.float32(random.normal()))
    return found


def sound(episodes: int = 4, steps: int = 20) -> list[Array]:
    """A tone of 233 Hz with noise, without a seam: (steps + 1, 400, 1)."""
    random, count = np.random.default_rng(0), 400 * (steps + 1)
    t = np.arange(count) / RATE
    return [
        (np.sin(2 * np.pi * 233 * t + i) + 0.05 * random.normal(size=count)).astype(np.float32).reshape(-1, 400, 1)
        for i in range(episodes)
    ]


def text(episodes: int = 4, steps: int = 40) -> list[Array]:
    """Words of a few letters each, drawn at random: (steps + 1, 32)."""
    random = np.random.default_rng(0)
    words = [bytes(random.integers(97, 123, n).tolist()) + b" " for n in random.integers(2, 8, 400)]
    found = []
    for _ in range(episodes):
        line = b"".join(words[i] for i in random.integers(0, 400, 20 * (steps + 1)))[: 32 * (steps + 1)]
        found.append(np.frombuffer(line, np.uint8).astype(np.int32).reshape(-1, 32))
    return found


def pictures(count: int = 30) -> list[Array]:
    """A square somewhere on a shaded floor, one moment each: (1, 16, 16, 3)."""
    random, found = np.random.default_rng(0), []
    for _ in range(count):
        frame = np.full((16, 16, 3), 60) + np.arange(16)[:, None, None] * 4 + random.integers(0, 3, (16, 16, 3))
        x, y = random.integers(0, 11, 2)
        frame[y : y + 5, x : x + 5] = (200, 120, 80)
        found.append(frame.astype(np.uint8)[None])
    return found


def looked_at(folder: Path, spec: ObservationSpec, episodes: list[Array]) -> Report:
    """What is said of a log of one observation; unsound ones too, so the file is laid out without being checked."""
    from steersman.data.formats.arrays import describe, lay_out
    from steersman.data.formats.npz import Npz

    signature = Signature({"x": spec}, NONE)
    path = folder / f"log{len(list(folder.iterdir()))}.npz"
    with Npz().storing(path) as store:
        for number, values in enumerate(episodes):
            recording = Recording({"x": values}, np.zeros((len(values) - 1, 0), np.float32))
            store(number, dict(lay_out(recording, number)), b"" if number else describe(signature, False))
    return examine(path, limits=None)


def kinds(report: Report) -> set[str]:
    return {f.kind for f in report.findings}


SOUND: dict[str, tuple[ObservationSpec, Callable[[], list[Array]]]] = {
    "pictures": (PICTURE, pictures), "field": (FIELD, heat), "waveform": (WAVE, sound), "text": (TEXT, text),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_invented_about_a_sound_log_and_actions_are_left_out_in_words(tmp_path: Path, name: str) -> None:
    spec, made = SOUND[name]
    report = looked_at(tmp_path, spec, made())
    assert not report.alarms, report.alarms
    assert report.trainable
    assert "Nobody acts" in report.verdict
    assert any(f.kind == "left-out" and "what an action does" in f.what for f in report.findings)
    (facts,) = report.observations
    assert facts.kind == spec.kind
    page = diagnosis(report)
    assert facts.words.split(";")[0] in page


def spoil(values: list[Array], change: Callable[[Array], object], episode: int = 1) -> list[Array]:
    found = [v.copy() for v in values]
    change(found[episode])
    return found


def _noise(v: Array) -> None:
    v += np.random.default_rng(0).normal(0, 2 * v.std(), v.shape).astype(np.float32)


def _clip(v: Array) -> None:
    np.clip(v, -0.7, 0.7, out=v)


FAULTS: dict[str, tuple[str, ObservationSpec, Callable[[], list[Array]]]] = {
    "a picture twice": ("duplicate-pictures", PICTURE, lambda: [*pictures(), pictures()[3]]),
    "black pictures": ("blank-images", PICTURE, lambda: spoil(pictures(), lambda v: v.fill(0))),
    "one picture only": ("constant-image", PICTURE, lambda: [pictures()[0]] * 12),
    "a field with NaN": ("missing-values", FIELD, lambda: spoil(heat(), lambda v: v.__setitem__((2, 3, 4, 0), np.nan))),
    "a field that blew up": ("blow-up", FIELD, lambda: spoil(heat(), lambda v: v.__setitem__(-1, 1e6))),
    "noise on the grid": ("unresolved-field", FIELD, lambda: [v for e in heat() for v in [e] if _noise(e) is None]),
    "a constant field": ("constant-channel", FIELD, lambda: [np.full((5, 32, 32, 1), 3.0, np.float32)] * 3),
    "a leak of the mean": ("mean-not-conserved", FIELD, lambda: spoil(heat(), lambda v: v.__iadd__(
        np.linspace(0, 1, len(v), dtype=np.float32).reshape(-1, 1, 1, 1)))),
    "ends that do not meet": ("not-periodic", FIELD, lambda: [
        v + np.linspace(0, 9, 32, dtype=np.float32)[:, None, None] for v in heat()]),
    "moments far apart": ("moments-apart", FIELD, lambda: [np.concatenate([heat(6, 0, s)[i] for s in range(8)])
                                                           for i in range(6)]),
    "a frozen field": ("repeated-fields", FIELD, lambda: [np.repeat(v, 3, 0) for v in heat()]),
    "an episode of fields twice": ("duplicate-fields", FIELD, lambda: [*heat(), heat()[0]]),
    "clipping": ("clipped", WAVE, lambda: [v for e in sound() for v in [e] if _clip(e) is None]),
    "silence": ("silence", WAVE, lambda: spoil(sound(), lambda v: v[2:].fill(0), 0)),
    "a dead channel": ("silent-channel", WAVE, lambda: [np.full_like(v, 0.25) for v in sound()]),
    "gravity": ("offset", WAVE, lambda: [v + np.float32(9.81) for v in sound()]),
    "lost samples": ("holes", WAVE, lambda: spoil(sound(), lambda v: v[4, 100:160].fill(0))),
    "moments out of order": ("seams", WAVE, lambda: [v[np.random.default_rng(0).permutation(len(v))] for v in sound()]),
    "a waveform with infinity": ("missing-values", WAVE, lambda: spoil(sound(), lambda v: v.__setitem__(
        (0, 0, 0), np.inf))),
    "a token beyond": ("token-outside", TEXT, lambda: spoil(text(), lambda v: v.__setitem__((0, 0), 256))),
    "one token": ("one-token", TEXT, lambda: [np.where(np.arange(32) < 20, 0, v).astype(np.int32) for v in text()]),
    "padding": ("padding", TEXT, lambda: [np.concatenate([v, np.zeros((20, 32), np.int32)]) for v in text()]),
    "a text twice": ("repeated-passages", TEXT, lambda: [*text(), text()[0]]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(tmp_path: Path, name: str) -> None:
    kind, spec, made = FAULTS[name]
    report = looked_at(tmp_path, spec, made())
    assert kind in kinds(report), kinds(report)


def test_unsound_moments_are_found_where_they_are_and_training_would_refuse_them(tmp_path: Path) -> None:
    report = looked_at(tmp_path, FIELD, spoil(heat(), lambda v: v.__setitem__((2, 3, 4, 0), np.nan)))
    (finding,) = (f for f in report.findings if f.kind == "missing-values")
    assert finding.rows == (11 + 2 + 1,)
    assert not report.trainable
    assert report.verdict.startswith("Repair the log first")


def test_figures_are_those_of_the_signal(tmp_path: Path) -> None:
    (facts,) = looked_at(tmp_path, WAVE, sound()).observations
    assert facts.figures["peak_frequency"] == pytest.approx(233, abs=RATE / 1024)
    assert facts.figures["level"] == pytest.approx(0.709, abs=0.01)
    x = np.sin(2 * np.pi * 4 * np.arange(32) / 32)[:, None, None] * np.ones((1, 32, 1))
    moving = [np.stack([np.roll(x, i + j, 0) for i in range(5)]).astype(np.float32) for j in (0, 1, 2)]
    (facts,) = looked_at(tmp_path, FIELD, moving).observations
    assert facts.figures["points_per_wave"] == pytest.approx(8, rel=1e-3)
    assert facts.figures["unresolved"] < 1e-6
    (facts,) = looked_at(tmp_path, TEXT, [np.arange(256, dtype=np.int32).reshape(8, 32)]).observations
    assert facts.figures["bits"] == pytest.approx(8)
    assert facts.figures["used"] == 1


def test_passages_are_hashed_as_a_plain_loop_would_tell_them_apart() -> None:
    tokens = np.random.default_rng(0).integers(0, 2, 400).astype(np.uint64)
    tokens[300:350] = tokens[100:150]
    codes = _hashes(tokens)
    plain = [tokens[i : i + 32].tobytes() for i in range(len(tokens) - 31)]
    assert len(codes) == len(plain)
    assert len(set(codes.tolist())) == len(set(plain)) <= len(plain) - 19


def test_words_as_actions_are_looked_at_as_words(tmp_path: Path) -> None:
    words = Signature({"text": ObservationSpec("tokens", (1,), vocabulary=256)}, ActionSpec("discrete", choices=256))
    log = [Recording({"text": t.reshape(-1, 1)}, t.reshape(-1, 1)[1:].astype(np.int64)) for t in text()]
    report = examine(write(tmp_path / "log.npz", words, log))
    assert not report.alarms, report.alarms
    assert [o.name for o in report.observations] == ["text", "action"]
    assert any("the actions are words" in f.what for f in report.findings)
    assert "Nobody acts" not in report.verdict


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs())
def test_every_log_can_be_examined(made: tuple[Signature, list[Recording]]) -> None:
    signature, log = made
    with tempfile.TemporaryDirectory() as folder:
        report = examine(write(Path(folder) / "log.npz", signature, log), limits=None)
        assert report.trainable
        assert report.episodes == len(log)
        diagnosis(report)


def test_pictures_of_classes_of_another_colour_are_not_called_exchanged(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    found = []
    for number in range(60):
        picture = random.integers(0, 60, (1, 16, 16, 3)).astype(np.uint8)
        picture[..., number % 3] += 150  # red, green, blue
        found.append(picture)
    said = looked_at(tmp_path, PICTURE, found)
    assert not [f for f in said.findings if f.state == "bad"], [f.what for f in said.findings]
    filmed = [np.concatenate([*found[0::3], *found[2::3][:5]])]
    assert any(f.kind == "swapped-channels" for f in looked_at(tmp_path, PICTURE, filmed).findings)
