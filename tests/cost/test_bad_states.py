"""Guardrails learned from labelled bad states: the stated share is refused, little else is."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, Imagined, PlanningError, check_guardrail
from steersman.cost import BadStates

D = 6
QUICK = BadStates.Config(steps=150, hidden=(32,), lr=2e-2)


def labelled(n, seed, noise=0.15):
    """Bad: inside a disk of the first two entries; labels near the edge are wrong now and then."""
    g = torch.Generator().manual_seed(seed)
    states = torch.randn(n, D, generator=g)
    radius = states[:, :2].norm(dim=1) + noise * torch.randn(n, generator=g)
    return states, radius < 0.8


@pytest.mark.parametrize("share", [0.9, 0.98])
def test_the_stated_share_of_bad_states_is_refused(share):
    refused, good = [], []
    for seed in range(6):
        states, bad = labelled(1500, seed)
        rail = BadStates.fit(states, bad, share=share, seed=seed, config=QUICK)
        new, is_bad = labelled(4000, 100 + seed)
        hit = rail.standing(new) > 0
        refused.append(float(hit[is_bad].float().mean()))
        good.append(float(hit[~is_bad].float().mean()))
        assert abs(good[-1] - rail.good_refused) < 0.06
    assert share - 0.02 <= sum(refused) / 6 <= share + 0.025
    assert sum(good) / 6 < (0.2 if share < 0.95 else 0.45)


def test_a_learned_guardrail_keeps_every_promise():
    states, bad = labelled(800, 0)
    rail = BadStates.fit(states, bad, share=0.9, config=QUICK, name="puddle")
    action = ActionSpec("continuous", (-1.0,), (1.0,))
    assert "has finite gradients" in check_guardrail(rail, action, (D,), differentiable=True)
    assert rail.name == "puddle"
    imagined = Imagined(torch.zeros(1, 1, 3, D))
    assert torch.equal(rail.margin(imagined, torch.zeros(1, 1, 2, 1)), rail.standing(imagined.states)[:, :, 1:])
    again = BadStates.fit(states, bad, share=0.9, config=QUICK)
    assert again.threshold == rail.threshold


def test_all_versions_of_a_label_must_be_refused_and_tokens_are_flattened():
    states, bad = labelled(1200, 3)
    g = torch.Generator().manual_seed(4)
    versions = torch.stack([states, states + 0.4 * torch.randn(states.shape, generator=g)], 1)
    both = BadStates.fit(versions, bad, share=0.9, config=QUICK)
    one = BadStates.fit(states, bad, share=0.9, config=QUICK)
    assert both.good_refused > one.good_refused
    tokens = BadStates.fit(states.view(-1, 2, 3), bad, latent_shape=(2, 3), share=0.9, config=QUICK)
    torch.testing.assert_close(tokens.standing(states.view(-1, 2, 3)), one.standing(states))


def test_whole_episodes_are_kept_aside():
    states, bad = labelled(1600, 5)
    unit = torch.arange(1600) // 8
    rail = BadStates.fit(states, bad, unit=unit, share=0.9, config=QUICK)
    new, is_bad = labelled(4000, 6)
    assert float((rail.standing(new) > 0)[is_bad].float().mean()) > 0.85


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s, b: (s, b[:-1]), "truth value for each"),
        (lambda s, b: (s, b.float()), "truth value for each"),
        (lambda s, b: (s * torch.nan, b), "finite states"),
        (lambda s, b: (s, b & False), "bad and good"),
        (lambda s, b: (s[:60], b[:60]), "at least 99 bad labels"),
    ],
)
def test_labels_that_promise_nothing_are_refused(change, match):
    with pytest.raises(PlanningError, match=match):
        BadStates.fit(*change(*labelled(300, 0)), config=QUICK)
