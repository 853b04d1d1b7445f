"""Guardrails on what is known: thresholds against plain quantiles, a hole in a log, noise that is not avoided."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, GuardrailConfig, Imagined, PlanningError, Readout
from steersman.core.checks import check_guardrail
from steersman.core.parts import convert
from steersman.cost import Agreement, Logged


class Plain(Readout):
    """The state itself."""

    @property
    def columns(self):
        return ("x", "y", "z")

    def read(self, states, context=None):
        return states


def ring(n: int, seed: int) -> torch.Tensor:
    """Moments in a square with a hole, beside a column that says nothing."""
    g = torch.Generator().manual_seed(seed)
    y = 2 * torch.rand(4 * n, 3, generator=g) - 1
    return y[y[:, :2].norm(dim=1) > 0.5][:n]


QUICK = Logged.Config(hidden=(64, 64), steps=600)


@pytest.fixture(scope="module")
def rail() -> Logged:
    return Logged.fit(Plain(), ring(4000, 0), ring(2000, 1), level=0.95, config=QUICK)


def test_agreement_takes_its_threshold_from_the_worst_step_of_held_out_windows():
    apart = torch.rand(199, 5, generator=torch.Generator().manual_seed(0))
    rail = Agreement.fit(apart, 0.9)
    assert rail.threshold == pytest.approx(float(apart.amax(1).sort().values[179]))
    d = torch.tensor([[[0.5, 2.0]]]) * rail.threshold
    margin = rail.margin(Imagined(torch.zeros(1, 1, 3, 2), disagreement=d), torch.zeros(1, 1, 2, 1))
    torch.testing.assert_close(margin, torch.tensor([[[-0.5, 1.0]]]))
    again = convert({"type": "agreement", "threshold": rail.threshold, "level": 0.9, "count": 199, "units": 199},
                    GuardrailConfig).build(None, (2,), {})
    assert again.threshold == rail.threshold


def test_agreement_refuses_in_words_a_single_model_and_a_level_that_the_log_cannot_promise():
    with pytest.raises(PlanningError, match="members > 1"):
        Agreement(1.0).margin(Imagined(torch.zeros(1, 1, 3, 2)), torch.zeros(1, 1, 2, 1))
    with pytest.raises(PlanningError, match="99 held-out episodes"):
        Agreement.fit(torch.rand(98, 2), 0.99)
    with pytest.raises(PlanningError, match="99 held-out episodes"):
        Agreement.fit(torch.rand(500, 2), 0.99, unit=torch.arange(500) % 50)
    with pytest.raises(PlanningError, match="above 0"):
        Agreement(0.0)


def test_logged_finds_the_hole_and_the_end_of_a_log_and_lets_new_logged_moments_through(rail):
    fresh = ring(2000, 2)
    refused = float((rail.standing(fresh) > 0).float().mean())
    assert refused < 0.07  # level .95
    hole = 0.3 * (2 * torch.rand(500, 3) - 1)
    assert float((rail.standing(hole) > 0).float().mean()) > 0.95
    beyond = torch.tensor([[2.5, 0.0, 0.0], [0.0, -2.5, 0.0], [2.0, 2.0, 2.0]])
    assert bool((rail.standing(beyond) > 0).all())


def test_logged_lets_nobody_further_out_and_everybody_back_in(rail):
    way = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0.8, 0, 0]])
    outwards = rail.margin(Imagined(way[None, None]), torch.zeros(1, 1, 2, 1))[0, 0]
    inwards = rail.margin(Imagined(way.flip(0)[None, None]), torch.zeros(1, 1, 2, 1))[0, 0]
    assert float(outwards[1]) <= 0
    assert float(inwards[0]) > 0


def test_both_keep_the_promises_of_guardrails_and_logged_is_built_again(rail):
    check_guardrail(rail, ActionSpec("continuous", (-1.0,), (1.0,)), (3,))
    again = rail.config.build(Plain(), (3,), rail.tensors())
    moments = ring(50, 3)
    torch.testing.assert_close(again.standing(moments), rail.standing(moments))
    with pytest.raises(PlanningError, match="fit the guardrail again"):
        rail.config.build(Plain(), (3,), {**rail.tensors(), "mean": torch.zeros(4)})
    with pytest.raises(PlanningError, match="columns among x, y, z"):
        Logged.fit(Plain(), ring(50, 0), ring(50, 1), columns=("w",), config=QUICK)
