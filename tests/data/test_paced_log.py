"""A log in model steps, against plain loops over its rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steersman.core import ActionSpec, DataError, Episode, ObservationSpec, Pace, Signature, UsageError
from steersman.data import CacheWriter, Dataset

SIGNATURE = Signature({"image": ObservationSpec("image", (2, 2, 3)), "vector": ObservationSpec("vector", (1,))},
                      ActionSpec("continuous", (-1.0,), (1.0,)), ("known",))


def numbered(path: Path, lengths: list[int], discrete: bool = False) -> Dataset:
    """Every row knows its number: pictures (16 · episode + row), vectors row, actions row / 100."""
    signature = Signature(SIGNATURE.observations, ActionSpec("discrete", choices=2)) if discrete else SIGNATURE
    with CacheWriter(path, signature) as writer:
        for number, steps in enumerate(lengths):
            row = torch.arange(steps + 1)
            picture = (16 * number + row).to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
            actions = (row[:-1, None] % 2) if discrete else row[:-1, None] / 100
            known = None if discrete else row[:-1, None] / 10
            writer.append(Episode({"image": picture.contiguous(), "vector": row[:, None].float()}, actions, known))
        writer.finish("x")
    return Dataset.open(path)


@pytest.mark.parametrize(
    "pace", [Pace(step=2), Pace(frames=3), Pace(step=3, frames=2), Pace(step=2, frames=3, apart=2)])
def test_every_window_is_what_a_loop_over_rows_gives(tmp_path: Path, pace: Pace) -> None:
    lengths = [15, 9, 12]
    rows = numbered(tmp_path / "log", lengths)
    log = rows.paced(pace)
    found = set()
    for index in range(len(log)):
        for start in range(int(log.lengths[index]) - 1):
            window = log.windows(torch.tensor([index]), torch.tensor([start]), 2)
            image, first = window.observations["image"][0], int(window.observations["vector"][0, 0])
            number = (int(image[0, 0, 0, 0]) - first) // 16
            assert image.shape == (3, 2, 2, 3 * pace.frames)
            for moment in range(3):
                row = first + moment * pace.step
                for i in range(pace.frames):
                    assert int(image[moment, 1, 1, 3 * i]) == 16 * number + row - i * pace.apart
            done = first + torch.arange(2 * pace.step)
            assert torch.allclose(window.actions[0].flatten(), done / 100)
            assert torch.allclose(window.exogenous[0].flatten(), done / 10)  # type: ignore[index]
            found.add((number, first))
    assert found == {(n, r) for n, steps in enumerate(lengths)
                     for r in range(pace.before, steps - 2 * pace.step + 1)}
    episode = log.episode(0)
    whole = log.windows(torch.tensor([0]), torch.tensor([0]), len(episode))
    assert torch.equal(episode.observations["image"], whole.observations["image"][0])
    assert torch.equal(episode.actions, whole.actions[0])
    frames = log.frames(torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert torch.equal(frames["image"], whole.observations["image"][0, :2])
    assert log.signature == SIGNATURE.paced(pace)


def test_discrete_actions_are_digits(tmp_path: Path) -> None:
    log = numbered(tmp_path / "log", [7], discrete=True).paced(Pace(step=3))
    assert log.episode(0).actions.tolist() == [[0b010], [0b101]]


def test_the_last_step_of_an_episode_is_there(tmp_path: Path) -> None:
    log = numbered(tmp_path / "log", [6]).paced(Pace(step=3))
    assert log.lengths.tolist() == [2, 1, 1]
    assert log.episode(0).observations["vector"].flatten().tolist() == [0, 3, 6]


def test_parts_are_cut_before_they_are_paced(tmp_path: Path) -> None:
    rows = numbered(tmp_path / "log", [15, 9, 12])
    learned, later = (part.paced(Pace(step=3, frames=2)) for part in rows.split(0.3))
    seen = [{int(e.observations["image"][i, 0, 0, c]) for e in part.episodes() for i in range(len(e) + 1)
             for c in (0, 3)} for part in (learned, later)]
    assert not seen[0] & seen[1]
    with pytest.raises(UsageError, match="split it, then pace it"):
        rows.paced(Pace(step=3)).split(0.3)
    with pytest.raises(UsageError, match="describe the log itself"):
        rows.paced(Pace(step=3)).statistics()


def test_a_log_too_short_for_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shorter model steps"):
        numbered(tmp_path / "log", [4, 3]).paced(Pace(step=4, frames=2))


def test_a_moment_at_the_beginning_repeats_the_first_picture(tmp_path: Path) -> None:
    rows = numbered(tmp_path / "log", [8])
    assert rows.moment(0, 3, Pace(frames=3, apart=2))["image"][0, 0, 0, ::3].tolist() == [3, 1, 0]
