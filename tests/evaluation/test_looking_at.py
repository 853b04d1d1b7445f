"""Where the state is read is where hiding the picture moves it: not where it never looks, not what never changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from filmed_dot import SIDE, Dot, log_of, pictures
from PIL import Image

from steersman.core import Latent, Pace, Perception
from steersman.core.pacing import stacked, unstacked
from steersman.evaluation.logged_moments import LoggedMoments
from steersman.evaluation.looking_at import looking_map, median_picture, occlusion
from steersman.runs import artefacts as a

GRID = (8, 8)


class Everywhere(Perception):
    """The latent is the mean of the pictures' left half, times 10."""

    latent_shape = (1,)

    def encode(self, observation: dict[str, torch.Tensor], task: object = None) -> Latent:
        left = observation["image"][..., : SIDE // 2, :].float()
        return Latent(left.mean((-1, -2, -3))[..., None] * 10)


def test_the_median_has_what_stands_still_and_not_what_moves(tmp_path: Path) -> None:
    found = median_picture(log_of(tmp_path / "log", 20, 20), "image")
    empty = pictures(torch.tensor([-9.0, -9.0]))
    assert torch.equal(found, empty)


def test_a_state_is_read_where_the_dot_is(tmp_path: Path) -> None:
    background = median_picture(log_of(tmp_path / "log", 20, 20), "image")
    places = torch.tensor([[7.0, 7.0], [16.0, 10.0]])
    change = occlusion(Dot(), {"image": pictures(places)}, "image", background, GRID)
    assert change.shape == (2, *GRID)
    centre = (torch.arange(8) + 0.5) * SIDE / 8 - 0.5
    for i, (x, y) in enumerate(places):
        far = ((centre[None] - x).abs() > 6) | ((centre[:, None] - y).abs() > 6)
        assert float(change[i][far].max()) == 0.0  # the lamp among it
        rows, columns = (change[i] == change[i].max()).nonzero().float().mean(0)
        assert abs(float((columns + 0.5) * 3 - 0.5 - x)) <= 3
        assert abs(float((rows + 0.5) * 3 - 0.5 - y)) <= 3


def test_it_is_not_read_where_the_encoder_does_not_look(tmp_path: Path) -> None:
    background = median_picture(log_of(tmp_path / "log", 20, 20), "image")
    change = occlusion(Everywhere(), {"image": pictures(torch.tensor([[18.0, 10.0], [5.0, 10.0]]))}, "image",
                       background, GRID)
    assert float(change[0].max()) == 0.0
    assert float(change[1].max()) > 0.0


def test_a_place_is_hidden_in_all_pictures_of_a_moment_and_in_none_of_the_others() -> None:
    seen: list[torch.Tensor] = []

    class Watched(Dot):
        def encode(self, observation: dict[str, torch.Tensor], task: object = None) -> Latent:
            seen.append(observation["image"][:, 0].clone())
            assert observation["other"].shape[2:] == (3,)
            return super().encode(observation)

    film = stacked(torch.full((1, 2, SIDE, SIDE, 3), 9, dtype=torch.uint8))
    background = torch.zeros(SIDE, SIDE, 6, dtype=torch.uint8)
    occlusion(Watched(2), {"image": film, "other": torch.zeros(1, 3)}, "image", background, (1, 4))
    newest, before = unstacked(seen[1], 2).unbind(1)
    assert torch.equal(newest, before)
    hidden = (newest == 0).all(-1)
    assert hidden.shape[0] == 4
    assert hidden[0].any(0).nonzero().flatten().tolist() == list(range(9))  # a cell of 6 columns, half of one beside
    assert hidden[1].any(0).nonzero().flatten().tolist() == list(range(3, 15))


def test_the_map_stands_over_its_pictures(tmp_path: Path) -> None:
    log, pace = log_of(tmp_path / "log", 20, 20), Pace(step=2, frames=2)
    paced = log.paced(pace)
    moments = LoggedMoments(Dot(2), paced)
    path = looking_map(tmp_path, Dot(2), paced, "image", moments, name="looks", seconds=60.0)
    found = a.read(path, a.Map)
    sheet = np.asarray(Image.open(tmp_path / "maps" / found.file))
    assert found.fades
    assert found.size == (sheet.shape[1], sheet.shape[0])
    rows, columns = len(found.values), len(found.values[0])
    assert (rows, columns) == (33, 67)  # 16 cells along each of 4 pictures, twice, a cell apart
    assert found.size == (columns * 2, rows * 2)
    assert sheet[..., 3].min() == 0
    top = [v for row in found.values[:17] for v in row]
    assert set(top) == {None}
    for i in range(4):
        lower = torch.tensor([row[17 * i : 17 * i + 16] for row in found.values[17:]])
        shown = sheet[34:, 34 * i : 34 * i + 32, 0].reshape(16, 2, 16, 2).max((1, 3))
        dot = torch.from_numpy(shown > 100)
        assert bool(dot.any())
        assert float(lower[dot].mean()) > 10 * float(lower[~dot].mean())
    assert "in all 2 pictures of the moment at once" in found.caption


def test_a_slow_encoder_is_asked_for_fewer_places(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 20, 20)
    path = looking_map(tmp_path, Dot(), log, "image", LoggedMoments(Dot(), log), name="looks", seconds=0.0)
    assert len(a.read(path, a.Map).values) == 2 * 4 + 1
