"""The forbidden region: distances against brute force, sweeps, ways out of the margin, problems apart, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from steersman.core import Imagined, PlanningError, Readout
from steersman.cost import Region
from steersman.cost.region import PIXEL, signed_distance


class Plain(Readout):
    """The state's first two numbers are x and y."""

    @property
    def columns(self) -> tuple[str, ...]:
        return ("speed", "x", "y")

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.cat([states[..., :1] * 0, states[..., :2]], -1)


def disk(x: float, y: float, radius: float, size: tuple[int, int] = (48, 64)) -> Tensor:
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in size), indexing="ij")
    return torch.hypot(columns - x, rows - y) <= radius


def ways(*points: tuple[float, float]) -> Imagined:
    """One problem, one candidate through these points."""
    return Imagined(torch.tensor(points, dtype=torch.float32)[None, None])


def g(region: Region, *points: tuple[float, float]) -> list[float]:
    return region.margin(ways(*points), torch.zeros(1, 1, len(points) - 1, 2))[0, 0].tolist()


def test_distance_at_pixel_centres_equals_brute_force() -> None:
    masks = torch.rand(3, 9, 13, generator=torch.Generator().manual_seed(0)) < 0.1
    masks[2] = ~masks[2]
    found = signed_distance(masks)
    for b in range(3):
        for row in range(9):
            for column in range(13):
                here = torch.tensor([row, column])
                other = (masks[b] != masks[b, row, column]).nonzero()
                apart = float((other - here).float().norm(dim=1).min())
                expected = (1 - apart if masks[b, row, column] else apart) - PIXEL
                assert float(found[b, row, column]) == pytest.approx(expected, abs=1e-5)


def test_clearance_of_a_sweep_is_that_of_the_nearest_masked_pixel() -> None:
    mask = disk(30, 20, 5)
    pixels = mask.nonzero().flip(1).float()
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(4, 50, 1, 2, generator=generator) * torch.tensor([63.0, 47.0])
    b = a + torch.randn(4, 50, 1, 2, generator=generator) * 3
    b = torch.minimum(b.clamp_min(0), torch.tensor([63.0, 47.0]))
    found = Region(Plain(), mask).clearance(a, b).amin(-1).flatten()
    fine = a + torch.linspace(0, 1, 400)[:, None] * (b - a)
    exact = torch.cdist(fine.flatten(0, 2), pixels).amin(1).unflatten(0, (200, 400)).amin(1) - PIXEL
    outside = exact > 1
    assert int(outside.sum()) > 100
    assert float((found - exact)[outside].max()) < 0.08
    longest = (b - a).norm(dim=-1).flatten()
    short = outside & (longest < 2.5)
    assert float((found - exact)[short].abs().max()) < 0.08


def test_a_step_is_judged_over_its_whole_way_not_at_its_end() -> None:
    region = Region(Plain(), disk(30, 20, 3), margin=1.0)
    through = g(region, (22, 20), (38, 20))
    assert through[0] > 0, "both ends are clear, the way is not"
    assert all(x <= 0 for x in g(region, (22, 5), (38, 5), (38, 30)))


def test_the_painted_pixels_are_covered_and_the_margin_is_kept() -> None:
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[20, 20] = True
    for margin in (0.5, 2.0, 3.5):
        region = Region(Plain(), mask, margin=margin)
        edge = 20 + PIXEL + margin
        assert g(region, (edge + 0.1, 18), (edge + 0.1, 20.4), (edge + 0.1, 22.8)) < [0, 0]
        assert g(region, (edge - 0.1, 18), (edge - 0.1, 20.4))[0] > 0


def test_inside_the_margin_only_ways_out_are_allowed() -> None:
    region = Region(Plain(), disk(30, 20, 5), margin=3.0)
    inside = (37.0, 20.0)
    assert g(region, inside, (39, 20))[0] <= 0, "straight out"
    assert g(region, inside, (37.3, 22.3))[0] <= 0, "round it, a little farther off"
    assert g(region, inside, (36, 20))[0] > 0, "nearer"
    assert g(region, inside, inside)[0] > 0, "waiting is no way out"
    assert g(region, inside, (23, 20))[0] > 0, "out at the other side"
    assert g(region, (30.0, 20.0), (32, 20))[0] <= 0, "from inside the region itself"
    assert g(region, inside, (39, 20), (41.5, 20), (38, 20))[1:] == pytest.approx([-0.29, 0.71], abs=0.01)


def test_each_problem_has_its_own_region_and_keeps_it() -> None:
    masks = torch.stack([disk(10, 20, 4), disk(30, 20, 4), disk(50, 20, 4)])
    region = Region(Plain(), masks, margin=1.5)
    generator = torch.Generator().manual_seed(2)
    states = torch.rand(3, 7, 5, 2, generator=generator) * torch.tensor([63.0, 47.0])
    whole = region.margin(Imagined(states), torch.zeros(3, 7, 4, 2))
    for b in range(3):
        alone = Region(Plain(), masks[b], margin=1.5).margin(Imagined(states[b : b + 1]), torch.zeros(1, 7, 4, 2))
        torch.testing.assert_close(alone[0], whole[b])
    rows = torch.tensor([True, False, True])
    torch.testing.assert_close(region.rows(rows).margin(Imagined(states[rows]), torch.zeros(2, 7, 4, 2)), whole[rows])
    torch.testing.assert_close(
        region.rows(torch.tensor([2])).margin(Imagined(states[2:]), torch.zeros(1, 7, 4, 2)), whole[2:])
    shared = Region(Plain(), masks[0], margin=1.5)
    torch.testing.assert_close(
        shared.margin(Imagined(states[:1].expand(3, -1, -1, -1)), torch.zeros(3, 7, 4, 2))[2], whole[0])
    with pytest.raises(PlanningError, match=r"3 problems.*got 2.*keep"):
        region.margin(Imagined(states[:2]), torch.zeros(2, 7, 4, 2))


def test_nothing_painted_forbids_nothing_and_everything_painted_allows_no_entry() -> None:
    assert all(x < -50 for x in g(Region(Plain(), torch.zeros(64, 64, dtype=torch.bool), margin=3), (1, 1), (60, 60)))
    assert g(Region(Plain(), torch.ones(64, 64, dtype=torch.bool), margin=3), (1, 1), (60, 60))[0] > 0


def test_places_beyond_the_picture_are_never_taken_for_clear() -> None:
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[:, 39] = True
    region = Region(Plain(), mask, margin=1.0)
    assert g(region, (30, 20), (60, 20))[0] > 0
    assert g(region, (30, -30), (45, -30))[0] > 0


@pytest.mark.parametrize(
    ("mask", "settings"),
    [
        (torch.zeros(64, 64), {}),
        (torch.zeros(64, dtype=torch.bool), {}),
        (torch.zeros(0, 64, dtype=torch.bool), {}),
        (torch.zeros(2, 1, 64, 64, dtype=torch.bool), {}),
        ([[True]], {}),
        (torch.zeros(64, 64, dtype=torch.bool), {"columns": ("x", "height")}),
        (torch.zeros(64, 64, dtype=torch.bool), {"margin": math.inf}),
        (torch.zeros(64, 64, dtype=torch.bool), {"margin": -1.0}),
        (torch.zeros(64, 64, dtype=torch.bool), {"margin": math.nan}),
    ],
)
def test_refusals_say_what_was_expected_what_came_and_what_to_do(mask: object, settings: dict[str, object]) -> None:
    with pytest.raises(PlanningError, match=r"expected .*; got .*; "):
        Region(Plain(), mask, **settings)  # type: ignore[arg-type]
