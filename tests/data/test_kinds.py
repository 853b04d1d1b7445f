"""Images, vectors, fields, waveforms, tokens and mixtures, acted and not: written, read, cached and windowed, they are
what they were; what does not fit is refused in one line before anything is written."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from kinds import FIELD, PICTURES, TEXT, WAVE, WORDS, logs, recorded

from steersman.core import ActionSpec, DataError, Episode, ObservationSpec, Recording, Signature, UsageError
from steersman.data import CacheWriter, Dataset, ReadOptions, build, convert, load, read, repair, resample, write

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(a: Recording, b: Recording, times: bool = True) -> None:
    assert set(a.observations) == set(b.observations)
    pairs = [(a.observations[n], b.observations[n]) for n in a.observations]
    pairs += [(a.actions, b.actions), (a.exogenous, b.exogenous)]  # type: ignore[list-item]
    pairs += [(a.times, b.times)] if times else []  # type: ignore[list-item]
    for x, y in pairs:
        assert (x is None) == (y is None)
        if x is not None:
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)


def dataset(path: Path, signature: Signature, lengths: list[int]) -> tuple[Dataset, list[Recording]]:
    random = np.random.default_rng(0)
    log = [recorded(signature, steps, random) for steps in lengths]
    with CacheWriter(path, signature) as writer:
        writer.append(map(Episode.of, log))
        writer.finish("of a test")
    return Dataset.open(path), log


# There and back --------------------------------------------------------------------------------------------------


@SLOW
@given(logs())
def test_windows_of_the_cache_equal_the_recordings(made: tuple[Signature, list[Recording]]) -> None:
    signature, log = made
    with tempfile.TemporaryDirectory() as folder:
        with CacheWriter(Path(folder) / "cache", signature) as writer:
            writer.append(map(Episode.of, log))
            writer.finish("x")
        data = Dataset.open(Path(folder) / "cache")
        data.verify()
        data.statistics()
        for back, original in zip(data.episodes(), log, strict=True):
            same(back.recording(), original, times=False)
        for length in range(0 if signature.action.kind == "none" else 1, 4):
            if not bool((data.starts(length) > 0).any()):
                continue
            episode, start = data.draw(5, length, torch.Generator().manual_seed(0))
            window = data.windows(episode, start, length)
            assert window.actions.shape == (5, length, signature.action.size)
            for b, (e, s) in enumerate(zip(episode.tolist(), start.tolist(), strict=True)):
                piece = {n: v[s : s + length + 1] for n, v in log[e].observations.items()}
                for name, value in window.observations.items():
                    assert value.dtype == torch.from_numpy(piece[name]).dtype
                    assert np.array_equal(value[b].numpy(), piece[name])
                assert np.array_equal(window.actions[b].numpy(), log[e].actions[s : s + length])


@pytest.mark.parametrize("name", ["log.npz", "log.h5"])
@SLOW
@given(logs())
def test_arrays_on_disk_hold_every_kind(name: str, made: tuple[Signature, list[Recording]]) -> None:
    signature, log = made
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / name, signature, log)
        source = read(path, limits=None)
        assert source.signature == signature
        assert source.steps == sum(map(len, log))
        for back, original in zip(source.recordings(), log, strict=True):
            same(back, original)


@pytest.mark.parametrize("signature", [FIELD, WAVE, TEXT, WORDS, PICTURES], ids=lambda s: next(iter(s.observations)))
def test_the_parsers_process_and_conversions_keep_every_kind(tmp_path: Path, signature: Signature) -> None:
    log = [recorded(signature, steps, np.random.default_rng(steps), True) for steps in (3, 1, 2)]
    path = write(tmp_path / "log.npz", signature, log)
    for name in ("log.h5", "again.npz"):
        assert convert(read(path), tmp_path / name).episodes == 3
        path = tmp_path / name
    data = load(path, tmp_path / "cache")
    for back, held, original in zip(read(path).recordings(), data.episodes(), log, strict=True):
        same(back, original)
        same(held.recording(), original, times=False)


def test_tokens_take_the_least_bytes_that_hold_their_vocabulary(tmp_path: Path) -> None:
    for vocabulary, bytes_each in ((256, 1), (257, 2), (65_536, 2), (65_537, 4)):
        signature = Signature({"t": ObservationSpec("tokens", (3,), vocabulary=vocabulary)}, ActionSpec("none"))
        data, log = dataset(tmp_path / str(vocabulary), signature, [4, 0])
        assert data.index.fields["observation.t"].size == 6 * 3 * bytes_each
        assert data.episode(0).observations["t"].dtype == torch.int32
        same(data.episode(0).recording(), log[0])


def test_nobody_acts_so_nothing_is_kept_of_actions(tmp_path: Path) -> None:
    data, _ = dataset(tmp_path / "cache", PICTURES, [0, 0, 2])
    assert not list((tmp_path / "cache").glob("action*"))
    assert (data.steps, data.moments, data.acted) == (2, 5, False)


# Single moments --------------------------------------------------------------------------------------------------


def test_single_moments_are_drawn_split_and_described(tmp_path: Path) -> None:
    data, log = dataset(tmp_path / "cache", PICTURES, [0] * 20)
    window = data.windows(*data.draw(7, 0, torch.Generator().manual_seed(0)), 0)
    assert window.observations["image"].shape == (7, 1, 6, 5, 3)
    assert window.actions.shape == (7, 0, 0)
    for by in ("time", "episode"):
        learned, later = data.split(0.2, by=by)  # type: ignore[arg-type]
        assert (len(learned), len(later)) == (16, 4)
    same(data.split(0.2)[1].episode(0).recording(), log[16])
    assert len(data.split(0.2, embargo=3)[0]) == 13
    with pytest.raises(DataError, match="1 moments"):
        data.subset(torch.tensor([0])).split(0.5)
    with pytest.raises(DataError, match="at least 1 step"):
        data.draw(2, 1, torch.Generator())


def test_a_film_is_split_between_moments(tmp_path: Path) -> None:
    data, log = dataset(tmp_path / "cache", FIELD, [9])
    learned, later = data.split(0.3)
    assert (learned.moments, later.moments) == (7, 3)
    same(later.episode(0).recording(), Recording({"flow": log[0].observations["flow"][7:]}, log[0].actions[7:]))


def test_a_window_of_no_step_is_refused_where_somebody_acts(tmp_path: Path) -> None:
    data, _ = dataset(tmp_path / "cache", WORDS, [4])
    with pytest.raises(DataError, match="at least one step"):
        data.windows(torch.tensor([0]), torch.tensor([0]), 0)


def test_statistics_count_tokens_and_average_channels(tmp_path: Path) -> None:
    data, log = dataset(tmp_path / "text", TEXT, [5, 0])
    counts = data.statistics().tokens["text"]
    every = np.concatenate([r.observations["text"].reshape(-1) for r in log])
    assert dict(zip(counts.tokens, counts.counts, strict=True)) == Counter(every.tolist())
    assert counts.counts[0] == max(counts.counts)
    assert data.statistics().action.rows == 0
    data, log = dataset(tmp_path / "flow", FIELD, [5, 0])
    columns = data.statistics().observations["flow"]
    every = np.concatenate([r.observations["flow"].reshape(-1, 2) for r in log]).astype(np.float64)
    assert columns.mean == pytest.approx(every.mean(0).tolist())
    assert columns.high == tuple(every.max(0).tolist())


# Formats that have no place for them -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log-v0"])
@pytest.mark.parametrize("signature", [FIELD, WAVE, TEXT], ids=["field", "waveform", "tokens"])
def test_a_format_without_a_place_for_a_kind_says_so_before_it_writes(
    tmp_path: Path, name: str, signature: Signature
) -> None:
    def never() -> None:
        raise AssertionError("read")
        yield

    (spec,) = signature.observations.values()
    with pytest.raises(UsageError, match=rf"observations of kind vector.*\({spec.kind}\).*\.h5 or \.npz"):
        write(tmp_path / name, signature, never())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["minari", "lerobot"])
def test_a_format_that_needs_an_action_says_so_before_it_writes(tmp_path: Path, format: str) -> None:
    with pytest.raises(UsageError, match=rf"an action in a {format} log.*nobody acts"):
        write(tmp_path / "log", PICTURES, [], format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
@pytest.mark.parametrize("lengths", [[3, 0, 2], [0, 0, 0]])
def test_tables_without_an_action_come_back(tmp_path: Path, name: str, lengths: list[int]) -> None:
    signature = Signature({"v": ObservationSpec("vector", (2,), ("a", "b"))}, ActionSpec("none"))
    if name.endswith("parquet"):
        signature = Signature(signature.observations | PICTURES.observations, ActionSpec("none"))
    log = [recorded(signature, steps, np.random.default_rng(i), True) for i, steps in enumerate(lengths)]
    source = read(write(tmp_path / name, signature, log))
    assert source.signature == signature
    for back, original in zip(source.recordings(), log, strict=True):
        same(back, original)


def test_a_table_is_read_without_an_action_when_told_so(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("t,x,y\n0,1,2\n1,3,4\n2,5,6\n")
    with pytest.raises(DataError, match=r"an action column.*--no-action"):
        read(tmp_path / "log.csv")
    source = read(tmp_path / "log.csv", ReadOptions(no_action=True))
    assert source.signature.action.kind == "none"
    assert [len(r) for r in source.recordings()] == [2]
    with pytest.raises(UsageError, match="an action or no_action"):
        read(tmp_path / "log.csv", ReadOptions(no_action=True, action=("x",)))
    again = read(tmp_path / "log.csv", ReadOptions(schema=source.schema))
    assert again.signature == source.signature


# Repair and resampling ---------------------------------------------------------------------------------------------


def test_what_a_killed_writer_left_of_single_moments_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steersman.data.cache._NOTE_SECONDS", -1.0)
    random = np.random.default_rng(0)
    log = [recorded(TEXT, 0, random) for _ in range(5)]
    writer = CacheWriter(tmp_path / "cache", TEXT)
    writer.append(map(Episode.of, log))
    (left,) = (p for p in tmp_path.iterdir() if p.is_dir())
    saved = left.rename(tmp_path / "left")
    repaired = repair(str(saved), limits=None)
    for back, original in zip(repaired.source.recordings(), log, strict=True):
        same(back, original)


def test_a_damaged_file_of_fields_is_saved_up_to_the_damage(tmp_path: Path) -> None:
    log = [recorded(WAVE, steps, np.random.default_rng(steps)) for steps in (30, 0, 20)]
    for name in ("log.npz", "log.h5"):
        path = write(tmp_path / name, WAVE, log)
        path.write_bytes(path.read_bytes()[:-5000])
        found = list(repair(str(path)).source.recordings())
        assert 1 <= len(found) < 3
        for back, original in zip(found, log, strict=False):
            same(back, original)


def test_fields_are_interpolated_tokens_nearest_and_waveforms_refused(tmp_path: Path) -> None:
    signature = Signature(FIELD.observations | TEXT.observations, ActionSpec("none"))
    original = recorded(signature, 2, np.random.default_rng(0))
    log = Recording(original.observations, original.actions, None, np.array([0.0, 1.0, 2.0]))
    (even,) = resample(read(write(tmp_path / "log.npz", signature, [log])), 0.5).source.recordings()
    flow, text = log.observations["flow"], log.observations["text"]
    assert np.allclose(even.observations["flow"][1], (flow[0] + flow[1]) / 2, atol=1e-6)
    assert np.array_equal(even.observations["flow"][2], flow[1])
    assert {row.tobytes() for row in even.observations["text"]} <= {row.tobytes() for row in text}
    wave = write(tmp_path / "wave.npz", WAVE, [recorded(WAVE, 2, np.random.default_rng(0), True)])
    with pytest.raises(UsageError, match=r"without waveforms.*sound"):
        resample(read(wave), 0.5)


# Bad input -------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_its_kind_is_refused_in_one_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for signature, spoil, words in (
        (FIELD, lambda v: v.__setitem__((1, 3, 2, 0), np.nan), "finite observation 'flow'.*NaN or infinity at row 1"),
        (WAVE, lambda v: v.__setitem__((0, 0, 0), np.inf), "finite observation 'sound'"),
        (TEXT, lambda v: v.__setitem__((0, 0), 256), r"tokens 'text' in 0\.\.255.*256"),
        (TEXT, lambda v: v.__setitem__((0, 0), -1), r"tokens 'text' in 0\.\.255.*-1"),
    ):
        good, bad = recorded(signature, 2, random), recorded(signature, 2, random)
        spoil(next(iter(bad.observations.values())))
        path = tmp_path / f"cache{len(list(tmp_path.iterdir()))}"
        with CacheWriter(path, signature) as writer:
            writer.append(Episode.of(good))
            with pytest.raises(DataError, match=words) as said:
                writer.append(Episode.of(bad))
            assert "\n" not in str(said.value)
            writer.finish("x")
        same(Dataset.open(path).episode(0).recording(), good)


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    cut = Recording({"image": np.zeros((1, 5, 5, 3), np.uint8)}, np.zeros((0, 0), np.float32))
    with CacheWriter(tmp_path / "cache", PICTURES) as writer, pytest.raises(DataError, match=r"shape \(1, 6, 5, 3\)"):
        writer.append(Episode.of(cut))


@pytest.mark.parametrize("change", [
    lambda s: s["observations"]["text"].update(vocabulary=0), lambda s: s["observations"]["text"].update(kind="field"),
    lambda s: s["observations"]["text"].update(kind="smell"), lambda s: s["action"].update(choices=3),
    lambda s: s["observations"]["text"].update(vocabulary=70_000),
    lambda s: s.update(action={"kind": "discrete", "choices": 2}),
])
def test_an_index_whose_kinds_do_not_fit_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    dataset(tmp_path / "cache", TEXT, [2])
    index = tmp_path / "cache" / "index.json"
    said = json.loads(index.read_text())
    change(said["signature"])
    index.write_text(json.dumps(said))
    with pytest.raises(DataError, match="delete the folder and build it again") as error:
        Dataset.open(tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_offsets_of_no_row_are_refused(tmp_path: Path) -> None:
    dataset(tmp_path / "cache", TEXT, [0, 1])
    (tmp_path / "cache" / "offsets.bin").write_bytes(np.array([0, 0, 3], "<i8").tobytes())
    with pytest.raises(DataError, match="other offsets"):
        Dataset.open(tmp_path / "cache")


def test_a_changed_source_of_pictures_is_cached_anew(tmp_path: Path) -> None:
    log = [recorded(PICTURES, 0, np.random.default_rng(i)) for i in range(4)]
    path = write(tmp_path / "log.npz", PICTURES, log)
    first = build(read(path), tmp_path / "cache")
    path.unlink()
    write(path, PICTURES, log[:3])
    assert len(first) == 4
    assert len(build(read(path), tmp_path / "cache")) == 3
