"""A predictor of states that were encoded for several tasks: each by its own token, streaming as whole, learned."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, Latent, MismatchError, ObservationSpec, Signature
from steersman.core.checks import check_world_model
from steersman.world_model import TransformerModel
from steersman.world_model.latent_variable import Gaussian

D = 4
SIGNATURE = Signature({"state": ObservationSpec("vector", (D,))}, ActionSpec("continuous", (-1.0,), (1.0,)))
SMALL = {"width": 16, "depth": 2, "heads": 2, "head_width": 8, "hidden": 16, "context": 3}
SHAPES = {"vector": (D,), "tokens": (2, 2)}


def build(shape=(D,), tasks=2, **changes):
    torch.manual_seed(0)
    model = TransformerModel.Config(**SMALL, tasks=tasks, **changes).build(SIGNATURE, shape, None).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def moments(shape=(D,), b=3, t=5):
    g = torch.Generator().manual_seed(1)
    states = torch.randn(b, t, D, generator=g, dtype=torch.float64).unflatten(2, shape)
    return states, torch.rand(b, t - 1, 1, generator=g, dtype=torch.float64), torch.rand(
        b, 4, 3, 1, generator=g, dtype=torch.float64)


def latent(states, task):
    return Latent(states, task=torch.tensor(task)[:, None].expand(-1, states.shape[1]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_problem_is_imagined_for_its_own_task(shape):
    model, (states, past, actions) = build(shape), moments(shape)
    together = model.imagine(model.begin(latent(states, [1, 0, 2]), past), actions)
    for b, task in enumerate((1, 0, 2)):
        belief = model.begin(latent(states[b : b + 1], [task]), past[b : b + 1])
        alone = model.imagine(belief, actions[b : b + 1])
        torch.testing.assert_close(alone.states[0], together.states[b])
    other = model.imagine(model.begin(latent(states, [2, 0, 2]), past), actions)
    assert not torch.allclose(other.states[0], together.states[0])
    untold = model.imagine(model.begin(Latent(states), past), actions)
    assert torch.equal(untold.states[1], together.states[1])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pieces_and_moments_one_by_one_are_as_the_whole(shape):
    model, (states, past, actions) = build(shape), moments(shape)
    whole = model.imagine(model.begin(latent(states, [1, 0, 2]), past), actions[:, :1])
    first = model.imagine(model.begin(latent(states, [1, 0, 2]), past), actions[:, :1, :2])
    rest = model.imagine(first.last(), actions[:, :1, 2:])
    torch.testing.assert_close(rest.states[:, 0, -1], whole.states[:, 0, -1])
    belief = None
    for t in range(states.shape[1]):
        moment = Latent(states[:, t], task=torch.tensor([1, 0, 2]))
        belief, _ = model.observe(belief, past[:, max(t - 1, 0) : t], moment)
    streamed = model.imagine(belief, actions[:, :1])
    torch.testing.assert_close(streamed.states, whole.states)
    filtered = model.filter(latent(states, [1, 0, 2]), past)
    torch.testing.assert_close(model.imagine(filtered.belief, actions[:, :1]).states, whole.states)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_keeps_every_promise_of_its_box(shape):
    torch.manual_seed(0)
    check_world_model(TransformerModel.Config(**SMALL, tasks=2).build(SIGNATURE, shape, None), SIGNATURE.action, shape)


def test_without_tasks_it_is_what_it_was():
    names = set(build(tasks=2).state_dict()) - set(build(tasks=0).state_dict())
    assert names == {"task_tokens.tokens"}
    states, past, actions = moments()
    model = build(tasks=0)
    told = model.imagine(model.begin(latent(states, [1, 0, 2]), past), actions)
    assert torch.equal(told.states, model.imagine(model.begin(Latent(states), past), actions).states)
    assert told.shared == ()


def test_two_tasks_whose_states_move_by_opposite_laws_are_learned_by_their_tokens():
    """Nothing in the states tells the laws apart: without tokens half of all steps are wrong."""
    errors = {}
    for tasks in (2, 0):
        torch.manual_seed(3)
        model = TransformerModel.Config(**SMALL, tasks=tasks).build(SIGNATURE, (D,), None)
        descent = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(120):
            states, actions = torch.randn(64, D), 2 * torch.rand(64, 1, 1, 1) - 1
            task = torch.randint(1, 3, (64,))
            belief = model.begin(Latent(states[:, None], task=task[:, None]), actions[:, 0, :0])
            law = torch.where(task == 1, 1.0, -1.0)[:, None]
            wanted = states + law * actions[:, 0, 0]
            error = (model.imagine(belief, actions).states[:, 0, 1] - wanted).square().mean()
            descent.zero_grad()
            error.backward()
            descent.step()
        errors[tasks] = float(error.detach())
    assert errors[2] < 0.05 < 0.2 < errors[0]


def test_what_it_cannot_do_is_refused():
    with pytest.raises(MismatchError, match="a perception with 2 tasks; got task 3"):
        build().begin(latent(moments()[0], [1, 3, 0]), moments()[1])
    with pytest.raises(ConfigError, match="none beside a latent variable"):
        build(latent_variable=Gaussian.Config(size=2))
