"""An agent's experience is a log like any other: read, cached and trained on; and windows without a cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steersman.core import ActionSpec, DataError, ObservationSpec, Signature, UsageError
from steersman.data import ReadOptions, build, read, write
from steersman.data.experience import ExperienceWindows
from steersman.runs.experiencing import ExperienceWriter, Moments
from steersman.runs.frames import segments

WORLD = Signature(
    {"eye": ObservationSpec("image", (3, 4, 3)), "arm": ObservationSpec("vector", (2,), ("a", "b"), 2)},
    ActionSpec("continuous", (-1.0, 0.0), (1.0, 2.0)), ("load",),
)


def fill(folder, steps=30, timed=False, retain=1 << 30):
    """Three episodes side by side; the second ends early and another begins in its place. -> what each went through."""
    writer, g = ExperienceWriter(folder, WORLD, "r", retain=retain), np.random.default_rng(0)
    lived, stream = [[], [], []], [0, 1, 2]
    for t in range(steps):
        first = np.array([t == 0, t in (0, 12), t == 0])
        if t == 12:
            lived.append([])
            stream[1] = 3
        moments = Moments(
            {"eye": g.integers(0, 256, (3, 3, 4, 3), np.uint8), "arm": g.normal(size=(3, 2)).astype(np.float32)},
            g.random((3, 2), np.float32), first=first, terminal=np.array([False, t == 11, False]),
            exogenous=g.random((3, 1), np.float32), measured={"arm": np.full(3, t % 2 == 0)},
            times=np.full(3, 0.5 * t) if timed else None,
        )
        writer.append(moments)
        for row, name in enumerate(stream):
            lived[name].append((moments, row))
    writer.close()
    return lived


def equal(recording, lived, timed=False):
    for name in WORLD.observations:
        assert np.array_equal(recording.observations[name], np.stack([m.observations[name][r] for m, r in lived]))
    assert np.array_equal(recording.actions, np.stack([m.actions[r] for m, r in lived[1:]]))
    assert np.array_equal(recording.exogenous, np.stack([m.exogenous[r] for m, r in lived[1:]]))
    assert np.array_equal(recording.measured["arm"][1:], [m.measured["arm"][r] for m, r in lived[1:]])
    assert (recording.times is not None) is timed


@pytest.mark.parametrize("timed", [False, True])
def test_a_log_of_experience_holds_what_was_lived(tmp_path, timed):
    lived = fill(tmp_path / "x", timed=timed)
    source = read(tmp_path / "x")
    assert (source.format, source.signature, source.steps) == ("experience", WORLD, sum(len(e) - 1 for e in lived))
    assert source.notes == ("moments 0 to 89 of what an agent went through",)
    found = list(source.recordings())
    for recording, episode in zip(found, lived, strict=True):
        equal(recording, episode, timed)
    assert read(tmp_path / "x").fingerprint == source.fingerprint
    again = read(write(tmp_path / "log.npz", WORLD, found))
    for a, b in zip(again.recordings(), found, strict=True):
        assert np.array_equal(a.observations["eye"], b.observations["eye"])


def test_a_cache_of_it_and_windows_without_one_are_the_same(tmp_path):
    fill(tmp_path / "x")
    dataset, windows = build(read(tmp_path / "x"), tmp_path / "cache"), ExperienceWindows(tmp_path / "x")
    assert torch.equal(dataset.lengths, windows.lengths)
    episode, start = torch.tensor([0, 3, 1, 2]), torch.tensor([5, 0, 2, 25])
    a, b = dataset.windows(episode, start, 4), windows.windows(episode, start, 4)
    for name in WORLD.observations:
        assert torch.equal(a.observations[name], b.observations[name])
    assert torch.equal(a.actions, b.actions)
    assert torch.equal(a.exogenous, b.exogenous)
    assert torch.equal(a.measured["arm"], b.measured["arm"])
    with pytest.raises(DataError, match="inside their episodes"):
        windows.windows(torch.tensor([1]), torch.tensor([8]), 4)


def test_a_log_that_grows_is_read_as_it_was_when_opened(tmp_path):
    fill(tmp_path / "x")
    source = read(tmp_path / "x")
    steps = [len(r) for r in source.recordings()]
    writer = ExperienceWriter(tmp_path / "x", WORLD)
    moment = {"eye": np.zeros((1, 3, 4, 3), np.uint8), "arm": np.zeros((1, 2), np.float32)}
    writer.append(Moments(moment, None))
    writer.append(Moments(moment, np.zeros((1, 2), np.float32), exogenous=np.zeros((1, 1), np.float32)))
    writer.close()
    assert [len(r) for r in source.recordings()] == steps
    assert len(list(read(tmp_path / "x").recordings())) == len(steps) + 1
    assert read(tmp_path / "x").fingerprint != source.fingerprint


def test_a_piece_is_the_same_whatever_came_later_and_whatever_earlier_is_gone(tmp_path):
    fill(tmp_path / "x")
    fill(tmp_path / "y", steps=60)
    whole = ExperienceWindows(tmp_path / "x", 45, 80)
    longer = ExperienceWindows(tmp_path / "y", 45, 80)
    ExperienceWriter(tmp_path / "x", WORLD, retain=5000).close()
    assert 0 < read(tmp_path / "x").steps < 100
    for other in (longer, ExperienceWindows(tmp_path / "x", 45, 80)):
        assert whole.lengths.tolist() == other.lengths.tolist() == [11, 10, 11]
        a, b = (w.windows(torch.arange(3), torch.arange(3), 5) for w in (whole, other))
        assert torch.equal(a.observations["eye"], b.observations["eye"])
        assert torch.equal(a.actions, b.actions)


def test_what_made_room_and_what_was_altered_is_said(tmp_path):
    fill(tmp_path / "x", retain=8000)
    file = segments(tmp_path / "x")[0][1]
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(content)
    moments, room, altered = read(tmp_path / "x").notes
    assert moments.endswith("to 89 of what an agent went through")
    assert "earlier ones made room" in room
    assert altered == "1 were altered on disk and are left out"
    for recording in read(tmp_path / "x").recordings():
        recording.validate(WORLD)


def test_bad_words_and_bad_files_are_answered_in_one_line(tmp_path):
    fill(tmp_path / "x")
    with pytest.raises(UsageError, match="options of none for a experience log"):
        read(tmp_path / "x", ReadOptions(action=("a",)))
    (tmp_path / "x" / "experience.json").write_text("{")
    with pytest.raises(DataError, match="expected experience in"):
        read(tmp_path / "x")
