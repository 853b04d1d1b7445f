"""A discrete toy world solved exactly: frequencies, outcomes, Bayes and mutual information; and one that is learned."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import ActionSpec, Belief, ConfigError, ObservationSpec, Signature
from steersman.world_model import ResidualModel
from steersman.world_model.latent_variable import Categorical

CHOICES = ActionSpec("discrete", choices=2)
PRIOR = torch.tensor([[0.5, 0.25, 0.2, 0.05], [0.1, 0.1, 0.1, 0.7]])  # (choices, codes)
LIKELIHOOD = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]])  # (codes, seen)


def signature(action=CHOICES):
    return Signature({"state": ObservationSpec("vector", (1,))}, action)


def toy(**settings) -> Categorical:
    """Its prior is PRIOR[choice], whatever the state."""
    torch.manual_seed(0)
    variable = Categorical.Config(codes=4, width=2, **settings).build(signature(), (1,), 1)
    with torch.no_grad():
        into, out = variable.to_prior[0], variable.to_prior[2]
        into.weight.zero_()
        into.weight[:, 1:] = torch.eye(2)  # from the one-hot choice
        into.bias.zero_()
        out.weight.copy_(PRIOR.log().T / torch.nn.functional.silu(torch.tensor(1.0)))
    return variable


def rows(n, choice):
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(0)), torch.full((n, 1), choice)


@pytest.mark.parametrize("choice", [0, 1])
def test_draws_have_the_frequencies_of_the_prior_and_support_lists_them(choice):
    variable, n = toy(), 10_000
    given, actions = rows(n, choice)
    u = (torch.arange(n) + 0.5)[:, None] / n
    torch.testing.assert_close(variable.draw(u, given, actions).mean(0), PRIOR[choice], atol=2e-4, rtol=0)
    support = variable.support(given[:1], actions[:1])
    torch.testing.assert_close(support.probability[0], PRIOR[choice].sort(descending=True).values)
    each = variable.draw(support.u[0], given[:4], actions[:4])
    torch.testing.assert_close(each @ PRIOR[choice], support.probability[0])
    assert torch.equal(variable.expected(given[:1], actions[:1])[0], torch.eye(4)[PRIOR[choice].argmax()])


@pytest.mark.parametrize("choice", [0, 1])
def test_posterior_is_bayes_and_information_averages_to_the_mutual_information(choice):
    variable, prior = toy(temperature=1.0), PRIOR[choice].double()
    joint = prior[:, None] * LIKELIHOOD.double()
    seen = joint.sum(0)
    given, actions = rows(3, choice)
    found = variable.posterior(given, actions, torch.zeros(3, 1), lambda z: -(z @ LIKELIHOOD).diagonal(0, 0, 2).T.log())
    posterior = joint / seen
    nats = (posterior * (posterior / prior[:, None]).log()).sum(0)
    torch.testing.assert_close(found.information.double(), nats, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.z.argmax(1), posterior.argmax(0))
    mutual = (joint * (joint / (prior[:, None] * seen)).log()).sum()
    assert float((seen * found.information.detach().double()).sum()) == pytest.approx(float(mutual), rel=1e-5)


def test_samples_of_the_posterior_have_its_frequencies():
    variable, n = toy(temperature=1.0), 5000
    given, actions = rows(n, 0)
    u = (torch.arange(n) + 0.5)[:, None] / n
    z = variable.posterior(given, actions, torch.zeros(n, 1), lambda z: -(z @ LIKELIHOOD[:, 1]).log(), u).z
    joint = PRIOR[0] * LIKELIHOOD[:, 1]
    torch.testing.assert_close(z.mean(0), joint / joint.sum(), atol=5e-4, rtol=0)


def test_at_temperature_0_the_least_energy_explains_whatever_its_probability():
    variable = toy()
    given, actions = rows(2, 0)
    found = variable.posterior(given, actions, torch.zeros(2, 1), lambda z: -z[..., 3] * 1e-3)
    assert found.z.argmax(1).tolist() == [3, 3]
    torch.testing.assert_close(found.information, -PRIOR[0, 3].log().expand(2))


def test_what_is_too_improbable_is_neither_drawn_nor_listed():
    variable = toy(least=0.15)
    given, actions = rows(1000, 0)
    u = (torch.arange(1000) + 0.5)[:, None] / 1000
    kept = torch.tensor([0.5, 0.25, 0.2, 0.0]) / 0.95
    torch.testing.assert_close(variable.draw(u, given, actions).mean(0), kept, atol=2e-3, rtol=0)
    assert int((variable.support(given[:1], actions[:1]).probability > 0).sum()) == 3


def test_a_learned_posterior_passes_gradients_straight_through_its_sample():
    variable = toy(inference="learned")
    given, actions = rows(16, 1)
    found = variable.posterior(given, actions, torch.randn(16, 1), u=torch.rand(16, 1))
    torch.testing.assert_close(found.z.detach(), torch.eye(4)[found.z.argmax(1)])
    found.z[:, 0].sum().backward(retain_graph=True)
    assert float(variable.to_posterior[2].weight.grad.abs().sum()) > 0
    assert variable.to_prior[2].weight.grad is None
    found.information.sum().backward()
    assert float(variable.to_prior[2].weight.grad.abs().sum()) > 0
    same = toy(inference="learned")  # a new q is uniform: its information is KL(uniform ‖ prior)
    told = same.posterior(given[:1], actions[:1], torch.zeros(1, 1)).information
    assert float(told.detach()) == pytest.approx(float(-(PRIOR[1] * 4).log().mean()), rel=1e-5)


def test_bad_settings_and_no_way_to_infer_are_refused():
    for wrong in ({"codes": 1}, {"size": -1}, {"width": 0}, {"temperature": -1.0}, {"least": 0.2, "codes": 8}):
        with pytest.raises(ConfigError, match=r"codes >= 2|least"):
            Categorical.Config(**wrong)
    with pytest.raises(ConfigError, match="configure inference 'learned'"):
        toy().posterior(*rows(1, 0), torch.zeros(1, 1))


def test_a_fork_is_learned_by_least_energy_with_its_probabilities():
    """s' = s + 1 or s - 1, up with probability .8 after choice 0 and .3 after choice 1."""
    g = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = ResidualModel.Config(width=16, depth=1, latent_variable=Categorical.Config(codes=2, width=16)).build(
        signature(), (1,))
    state, choice = torch.randn(512, 1, generator=g), torch.randint(2, (512, 1, 1), generator=g)
    up = torch.rand(512, 1, generator=g) < torch.where(choice[:, 0] == 0, 0.8, 0.3)
    following = (state + torch.where(up, 1.0, -1.0))[:, None]
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        found, nats = model.explain(Belief(state), choice, following)
        loss = (found.states[:, 0, 1:] - following).square().mean() + 0.1 * nats.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    u = ((torch.arange(50) + 0.5) / 50).view(1, 50, 1, 1).expand(512, -1, -1, -1)
    with torch.no_grad():
        ends = model.imagine(Belief(state), choice[:, None].expand(-1, 50, -1, -1), u=u).states[:, :, 1, 0]
    moved = ends - state
    assert float((moved.abs() - 1).abs().mean()) < 0.1
    share = (moved > 0).float().mean(1)
    for c in (0, 1):
        mine = choice[:, 0, 0] == c
        assert float(share[mine].mean()) == pytest.approx(float(up[mine].float().mean()), abs=0.03)
    told = float(model.explain(Belief(state), choice, following)[1].detach().mean())
    entropy = sum(-float((up == x)[choice[:, 0, 0] == c].float().sum()) / 512
                  * math.log(float((up == x)[choice[:, 0, 0] == c].float().mean())) for x in (0, 1) for c in (0, 1))
    assert told == pytest.approx(entropy, abs=0.02)
