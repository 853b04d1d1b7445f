"""A film shows what was imagined as the logged frames that are nearest to it, beside what happened, and how far off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from filmed_dot import SIDE, Dot, agent_of, log_of
from PIL import Image

from steersman.core import DataError, Pace
from steersman.data import Dataset
from steersman.evaluation.imagined_film import film, foresee
from steersman.evaluation.logged_moments import LoggedMoments
from steersman.runs import artefacts as a


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("dots")
    return log_of(folder / "learned", 40, 20), log_of(folder / "shown", 3, 20, seed=1)


def frames(run: Path, track: a.Track, count: int) -> torch.Tensor:
    """(count, SIDE, SIDE, 3) uint8: the frames of a track."""
    sheet = torch.from_numpy(np.asarray(Image.open(run / "films" / track.file).convert("RGB")).copy())
    cells = sheet.unflatten(0, (-1, SIDE)).unflatten(2, (track.across, SIDE)).transpose(1, 2).flatten(0, 1)
    return cells[:count]


def test_an_exact_model_shows_what_happened_and_errs_by_nothing(logs: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    learned, shown = logs
    agent = agent_of()
    told = foresee(agent, shown, 1)
    torch.testing.assert_close(told.imagined, told.states)
    path = film(tmp_path, told, LoggedMoments(agent.perception, learned), "image", name="f", title="an episode")
    found = a.read(path, a.Film)
    assert found.steps == tuple(range(21))
    happened, beside, imagined = found.tracks
    assert not happened.distances
    assert max(imagined.distances) < 1e-3
    assert found.outcome.startswith("after 20 model steps off by 0; had nothing changed, by ")
    place = Dot().encode({"image": shown.episode(1).observations["image"]}).state
    assert torch.equal(Dot().encode({"image": frames(tmp_path, happened, 21)}).state.round(), place)
    assert (Dot().encode({"image": frames(tmp_path, imagined, 21)}).state - place).norm(dim=1).max() < 2.5
    assert torch.equal(frames(tmp_path, beside, 21), frames(tmp_path, imagined, 21))


def test_a_wrong_model_shows_where_it_believes_to_be(logs: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    learned, shown = logs
    agent = agent_of(gain=0.0)
    told = foresee(agent, shown, 0)
    moments = LoggedMoments(agent.perception, learned)
    found = a.read(film(tmp_path, told, moments, "image", name="f", title="an episode"), a.Film)
    still = Dot().encode({"image": frames(tmp_path, found.tracks[2], 21)}).state
    assert bool((still == still[0]).all())
    error = (told.states[0] - told.states).norm(dim=1) / moments.unit
    torch.testing.assert_close(torch.tensor(found.tracks[2].distances), error, atol=1e-3, rtol=0)
    assert max(found.tracks[2].distances) > 1


def test_a_model_with_a_pace_is_followed_at_its_own(logs: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    pace = Pace(step=3, frames=2, apart=2)
    agent = agent_of(pace=pace, history=2)
    learned, shown = (log.paced(pace) for log in logs)
    told = foresee(agent, shown, 0)
    assert told.rows == (0, 3, 6, 9, 12, 15)  # 20 rows: 2 before the first moment, which is the history's
    torch.testing.assert_close(told.imagined, told.states)
    moments = LoggedMoments(agent.perception, learned)
    found = a.read(film(tmp_path, told, moments, "image", name="f", title="an episode"), a.Film)
    newest = logs[1].episode(0).observations["image"][5:21:3]
    assert torch.equal(Dot().encode({"image": frames(tmp_path, found.tracks[0], 6)}).state.round(),
                       Dot().encode({"image": newest}).state)


def test_what_was_done_by_others_is_not_imagined(logs: tuple[Dataset, Dataset]) -> None:
    learned, _ = logs
    told = foresee(agent_of(pace=Pace(step=2)), learned, 0)
    assert told.imagined is None
    assert len(told.states) == 21


def test_an_episode_without_the_history_is_refused(logs: tuple[Dataset, Dataset]) -> None:
    pace = Pace(step=6)
    with pytest.raises(DataError):
        foresee(agent_of(pace=pace, history=5), logs[1].paced(pace), 0)


def test_moments_are_of_one_unit_and_stop_in_time(logs: tuple[Dataset, Dataset]) -> None:
    learned, _ = logs
    moments = LoggedMoments(Dot(), learned)
    assert len(moments) == 40 * 21
    places = [Dot().encode({"image": e.observations["image"]}).state for e in learned.episodes()]
    step = torch.cat([x.diff(dim=0) for x in places]).square().sum(1).mean().sqrt()
    assert moments.steps
    assert moments.unit == pytest.approx(float(step), rel=0.1)
    index, distance = moments.nearest(moments.states[[5, 9]])
    assert distance.max() < 1e-3
    shown = Dot().encode({"image": moments.pictures(index, "image")}).state
    torch.testing.assert_close(shown, moments.states[[5, 9]])
    few = LoggedMoments(Dot(), learned, seconds=0.0)
    assert len(few) == 64
    assert torch.equal(few.states, moments.states[:64])


def test_a_log_that_stands_still_is_measured_from_moment_to_moment(tmp_path: Path) -> None:
    class Constant(Dot):
        def encode(self, observation: dict[str, torch.Tensor], task: object = None) -> object:
            latent = super().encode(observation)
            return type(latent)(torch.zeros_like(latent.state))

    moments = LoggedMoments(Constant(), log_of(tmp_path / "log", 2, 4))
    assert (moments.steps, moments.unit) == (False, 1.0)
