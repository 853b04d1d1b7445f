"""Windows, drawing, parts and statistics of a dataset, against plain loops over the episodes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from logs import CHOICES, MIXED, VECTORS, assert_equal, make_dataset

from steersman.core import DataError, UsageError
from steersman.data import Dataset


def identified(path: Path, lengths: list[int]) -> Dataset:
    """Every row knows its episode and its place: observation (episode, row), action (row / 1000, episode / 1000)."""
    from steersman.core import Episode
    from steersman.data import CacheWriter

    with CacheWriter(path, VECTORS) as writer:
        for number, steps in enumerate(lengths):
            rows = torch.arange(steps + 1.0)
            observation = torch.stack([torch.full_like(rows, number), rows], -1)
            writer.append(Episode({"vector": observation}, observation[:-1].flip(-1) / 1000))
        writer.finish("x")
    return Dataset.open(path)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 9), st.integers(0, 2**31))
def test_a_window_never_crosses_an_episode(lengths: list[int], length: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = identified(Path(folder) / "cache", lengths)
        generator = torch.Generator().manual_seed(seed)
        if length > max(lengths):
            with pytest.raises(DataError, match="steps"):
                dataset.draw(4, length, generator)
            return
        episode, start = dataset.draw(16, length, generator)
        window = dataset.windows(episode, start, length)
        rows = start[:, None] + torch.arange(length + 1)
        assert torch.equal(window.observations["vector"][..., 0], episode[:, None].expand(-1, length + 1).float())
        assert torch.equal(window.observations["vector"][..., 1], rows.float())
        assert torch.equal(window.actions[..., 0], rows[:, :-1] / 1000)
        for wrong in (-1, lengths[0] - length + 1):
            with pytest.raises(DataError, match="inside one episode"):
                dataset.windows(torch.tensor([0]), torch.tensor([wrong]), length)


@pytest.mark.parametrize("signature", [MIXED, VECTORS, CHOICES])
def test_windows_equal_slices_of_the_episodes(tmp_path: Path, signature) -> None:  # type: ignore[no-untyped-def]
    dataset, episodes = make_dataset(tmp_path / "cache", signature, [5, 3, 8])
    episode, start = torch.tensor([2, 0, 1, 2]), torch.tensor([5, 2, 0, 0])
    window = dataset.windows(episode, start, 3)
    assert torch.equal(window.episode, episode)
    assert torch.equal(window.start, start)
    for b, (e, s) in enumerate(zip(episode.tolist(), start.tolist(), strict=True)):
        for name, value in window.observations.items():
            assert torch.equal(value[b], episodes[e].observations[name][s : s + 4])
            assert value.dtype == episodes[e].observations[name].dtype
        assert torch.equal(window.actions[b], episodes[e].actions[s : s + 3])
        if signature.exogenous:
            assert torch.equal(window.exogenous[b], episodes[e].exogenous[s : s + 3])  # type: ignore[index]
        else:
            assert window.exogenous is None


def test_windows_are_copies_that_may_be_written_to(tmp_path: Path) -> None:
    dataset, episodes = make_dataset(tmp_path / "cache", MIXED, [5])
    for _ in range(2):
        window = dataset.windows(torch.tensor([0]), torch.tensor([0]), 5)
        assert torch.equal(window.actions[0], episodes[0].actions)
        window.observations["image"].zero_()
        window.actions.zero_()


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    dataset, episodes = make_dataset(tmp_path / "cache", MIXED, [5, 1, 8])
    assert dataset.lengths.tolist() == [5, 1, 8]
    assert dataset.steps == 14
    for back, original in zip(dataset.episodes(), episodes, strict=True):
        assert_equal(back, original)
    for wrong in (-1, 3):
        with pytest.raises(DataError, match=r"0\.\.2"):
            dataset.episode(wrong)


def test_frames_are_single_observations(tmp_path: Path) -> None:
    dataset, episodes = make_dataset(tmp_path / "cache", MIXED, [5, 3])
    frames = dataset.frames(torch.tensor([1, 0]), torch.tensor([3, 0]))
    assert torch.equal(frames["image"][0], episodes[1].observations["image"][3])
    with pytest.raises(DataError, match="inside their episodes"):
        dataset.frames(torch.tensor([1]), torch.tensor([4]))


def test_drawing_is_uniform_over_windows(tmp_path: Path) -> None:
    dataset = identified(tmp_path / "cache", [2, 4, 11])  # 0, 1 and 8 windows of 4 steps
    episode, start = dataset.draw(9000, 4, torch.Generator().manual_seed(0))
    assert set(episode.tolist()) == {1, 2}
    counts = torch.bincount(start[episode == 2], minlength=8)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_the_same_generator_draws_the_same_windows(tmp_path: Path) -> None:
    dataset = identified(tmp_path / "cache", [9, 7])
    a, b = (dataset.draw(50, 3, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), st.floats(0.05, 0.95), st.integers(0, 9), st.integers(0, 3),
    st.sampled_from(["episode", "time"]),
)
@example([1, 1, 6], 0.5, 0, 2, "time")  # whole episodes would leave nothing to train on
def test_training_and_held_out_share_no_row(
    lengths: list[int], held_out: float, seed: int, embargo: int, by: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = identified(Path(folder) / "cache", lengths)
        try:
            train, rest = dataset.split(held_out, seed, by, embargo)  # type: ignore[arg-type]
        except DataError:
            training = sum(lengths) - max(round(held_out * sum(lengths)), 1)
            assert training <= 1 + embargo if by == "time" else len(lengths) == 1
            return
        rows = [
            {tuple(row) for e in part.episodes() for row in e.observations["vector"].tolist()} for part in (train, rest)
        ]
        assert not rows[0] & rows[1]
        assert rows[0]
        assert rows[1]
        if by == "episode":
            assert len(train) + len(rest) == len(lengths)
        else:
            assert max(rows[0]) < min(rows[1])


def test_a_single_long_episode_is_split_by_time_with_an_embargo(tmp_path: Path) -> None:
    dataset = identified(tmp_path / "cache", [100])
    train, rest = dataset.split(0.2, by="time", embargo=5)
    assert train.episode(0).observations["vector"][[0, -1], 1].tolist() == [0, 74]
    assert rest.episode(0).observations["vector"][[0, -1], 1].tolist() == [80, 100]
    with pytest.raises(DataError, match="by="):
        dataset.split(0.2, by="episode")
    with pytest.raises(UsageError, match="between 0 and 1"):
        dataset.split(1.5)


def test_statistics_are_those_of_the_part_alone(tmp_path: Path) -> None:
    dataset, episodes = make_dataset(tmp_path / "cache", MIXED, [30, 20, 40])
    part = dataset.subset(torch.tensor([0, 2]))
    statistics = part.statistics()
    both = torch.cat([episodes[0].observations["vector"], episodes[2].observations["vector"]]).double()
    vector = statistics.observations["vector"]
    assert torch.allclose(torch.tensor(vector.mean).double(), both.mean(0))
    assert torch.allclose(torch.tensor(vector.std).double(), both.std(0, correction=0))
    assert vector.low == tuple(both.amin(0).tolist())
    assert vector.rows == 72
    actions = torch.cat([episodes[0].actions, episodes[2].actions]).double()
    assert torch.allclose(torch.tensor(statistics.action.mean).double(), actions.mean(0))
    assert statistics.action.rows == 70
    image = torch.cat([episodes[0].observations["image"], episodes[2].observations["image"]]).double()
    mean = torch.tensor(statistics.observations["image"].mean).double()
    assert torch.allclose(mean, image.flatten(0, 2).mean(0))


def test_statistics_survive_large_offsets_and_constant_columns(tmp_path: Path) -> None:
    from steersman.core import Episode
    from steersman.data import CacheWriter

    rows = torch.arange(200_001)
    values = torch.stack([1e6 + rows % 2 + 10.0 * (rows > 99_999), torch.full((200_001,), 3.0)], -1)
    with CacheWriter(tmp_path / "cache", VECTORS) as writer:
        writer.append(Episode({"vector": values}, torch.zeros(200_000, 2)))
        writer.finish("x")
    columns = Dataset.open(tmp_path / "cache").statistics().observations["vector"]
    assert columns.mean == pytest.approx(values.double().mean(0).tolist(), rel=1e-12)
    assert columns.std == pytest.approx(values.double().std(0, correction=0).tolist(), abs=1e-9)
    assert columns.tensors()[1].tolist()[1] == 1  # dividing by it changes nothing
