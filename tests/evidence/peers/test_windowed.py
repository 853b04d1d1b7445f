"""Other packages' models as boxes of ours: actions as they read them, histories, sittings; and our planner on them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steersman.actor import ICEM
from steersman.core import ActionSpec, Belief, Latent, MismatchError, ObservationSpec, Pace, Signature, UsageError
from steersman.core.checks import check_world_model
from steersman.core.pacing import chunked
from steersman.evidence.peers import lightly, stable_worldmodel, table, torch_world
from steersman.evidence.peers.our_planner import OurPlanner, read_out
from steersman.evidence.peers.policy import GoalPolicy
from steersman.evidence.peers.windowed import (
    Leg,
    Numbers,
    PictureLatent,
    Schedule,
    Windowed,
    WindowModel,
    train_windowed,
)
from steersman.worlds import Labelled


class Recalling(Windowed):
    """Foresees from all moments that it sees: a mean of latents, a decaying sum of actions, through a tanh."""

    def __init__(self, signature: Signature, history: int, size: int = 3) -> None:
        super().__init__(signature, history, size)
        self.eye = nn.Linear(math.prod(signature.observations[self.image].shape), size)
        self.push = nn.Linear(self.numbers.width, size)

    def embed(self, pictures: Tensor) -> Tensor:
        return self.eye(pictures.flatten(2).float() / 255)

    def foresee(self, latents: Tensor, actions: Tensor) -> Tensor:
        assert latents.shape[1] == actions.shape[1] <= self.history
        count = torch.arange(1, latents.shape[1] + 1)[:, None]
        return torch.tanh(latents.cumsum(1) / count + 0.3 * self.push(actions).cumsum(1))

    def own_planner(self, seed: int = 0) -> GoalPolicy:
        return OurPlanner(self.signature, PictureLatent(self), WindowModel(self), seed=seed)


def signature(action: ActionSpec) -> Signature:
    return Signature({"image": ObservationSpec("image", (4, 4, 1))}, action)


AMOUNTS = ActionSpec("continuous", (-1.0, -2.0), (1.0, 2.0))


@pytest.mark.parametrize("history", [1, 2, 3])
def test_a_package_s_model_keeps_the_promises_of_a_world_model(history: int) -> None:
    torch.manual_seed(0)
    model = WindowModel(Recalling(signature(AMOUNTS), history).requires_grad_(False))
    assert check_world_model(model, AMOUNTS, (3,), history=history)


@pytest.mark.parametrize("moments", [1, 2, 5])
def test_what_is_foreseen_stands_on_the_last_moments_alone_one_after_the_other(moments: int) -> None:
    torch.manual_seed(1)
    rival = Recalling(signature(AMOUNTS), 3)
    states, before, actions = torch.randn(2, moments, 3), torch.randn(2, moments - 1, 2), torch.randn(2, 2, 6, 2)
    model = WindowModel(rival)
    imagined = model.imagine(model.begin(Latent(states), before), actions).states
    for b in range(2):
        for k in range(2):
            seen, acts = list(states[b]), list(rival.numbers(before[b]))
            for t in range(6):
                acts.append(rival.numbers(actions[b, k, t]))
                last = rival.foresee(torch.stack(seen[-3:])[None], torch.stack(acts[-3:])[None])[0, -1]
                seen.append(last)
                assert torch.allclose(imagined[b, k, t + 1], last, atol=1e-6)


def test_histories_of_different_length_stand_in_one_batch() -> None:
    torch.manual_seed(2)
    model = WindowModel(Recalling(signature(AMOUNTS), 3))
    states, actions = torch.randn(1, 3, 3), torch.randn(1, 2, 2)
    short, full = model.begin(Latent(states[:, -1:]), actions[:, :0]), model.begin(Latent(states), actions)
    carry = tuple(torch.cat(pair) for pair in zip(short.carry, full.carry, strict=True))
    both = Belief(torch.cat([short.state, full.state]), carry=carry)
    future = torch.randn(2, 4, 2, 2)
    together = model.imagine(both, future)
    for i, belief in enumerate((short, full)):
        alone = model.imagine(belief, future[i : i + 1])
        assert torch.allclose(together.states[i], alone.states[0], atol=1e-6)
        assert all(torch.equal(x[i], y[0]) for x, y in zip(together.carry, alone.carry, strict=True) if x.dim() == 2)
    assert together.carry[2][:, 0].tolist() == [2, 2]


@pytest.mark.parametrize("planner", [lightly._CEM, torch_world._CEM])
def test_a_planner_of_amounts_refuses_choices(planner: Callable[[Any, int], GoalPolicy]) -> None:
    with pytest.raises(MismatchError, match="expected amounts"):
        planner(Recalling(signature(ActionSpec("discrete", choices=3)), 2), 0)


def test_amounts_are_scaled_and_come_back_within_their_bounds() -> None:
    numbers = Numbers(signature(AMOUNTS))
    action = torch.tensor([[1.0, -2.0], [0.5, 1.0]])
    assert numbers(action).tolist() == [[1.0, -1.0], [0.5, 0.5]]
    assert torch.allclose(numbers.back(numbers(action)), action)
    assert numbers.back(torch.tensor([[5.0, -5.0]])).tolist() == [[1.0, -2.0]]
    by_log = Numbers(signature(AMOUNTS), torch.tensor([0.5, 0.0]), torch.tensor([2.0, 1.0]))
    assert by_log(action)[0].tolist() == [0.25, -2.0]


def test_the_choices_of_a_chunk_stand_side_by_side() -> None:
    single = ActionSpec("discrete", choices=3)
    paced = signature(single).paced(Pace(step=2))
    numbers = Numbers(paced)
    each = torch.tensor([[[2], [0]], [[1], [1]]])
    action = chunked(each, paced.action)
    assert numbers.width == 6
    assert numbers(action).tolist() == [[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]]
    assert torch.equal(numbers.back(each[..., 0]), action)
    certain = torch.nn.functional.one_hot(action[:, 0], 9).float()
    assert torch.equal(numbers(certain), numbers(action))                  # a planner's mixture of whole chunks


def test_a_training_in_two_sittings_goes_on_with_weights_and_moments(
    square: Callable[..., Any], tmp_path: Path
) -> None:
    _, log = square("continuous", "image")
    seen: list[float] = []

    def sitting(leg: Leg) -> Recalling:
        torch.manual_seed(3)
        model = Recalling(log.signature, 2)

        def loss(pictures: Tensor, actions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            latents = model.embed(pictures)
            return (model.foresee(latents[:, :-1], actions) - latents[:, 1:]).square().mean(), {}

        def rate(share: float) -> float:
            seen.append(share)
            return 1.0

        schedule = Schedule(lr=1e-2, decay=0.0, batch_size=8, steps=4)
        train_windowed(model, log, schedule, rate, 60.0, 0, loss, leg)
        return model

    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    half = sitting(Leg(0.0, 0.5, after=first))
    again = sitting(Leg(0.5, 1.0, first, second))
    assert seen == pytest.approx([0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875])
    from safetensors.torch import load_file

    assert not torch.equal(half.eye.weight, again.eye.weight)
    assert torch.equal(load_file(first)["model.eye.weight"], half.eye.weight)
    steps = [value for key, value in load_file(second).items() if key.startswith("optimiser.steps.")]
    assert {float(step) for step in steps} == {8.0}


# Our planner --------------------------------------------------------------------------------------------------------


class Exact(Recalling):
    """The square itself: the blot's place, moved as the world moves it."""

    def embed(self, pictures: Tensor) -> Tensor:
        grey = pictures[..., 0].float()
        at = torch.linspace(0, 1, grey.shape[-1])
        mass = grey.sum((-1, -2)).clamp(min=1)
        return torch.stack([(grey.sum(-2) * at).sum(-1) / mass, (grey.sum(-1) * at).sum(-1) / mass], -1)

    def foresee(self, latents: Tensor, actions: Tensor) -> Tensor:
        return (latents + 0.12 * actions).clamp(0, 1)


@pytest.mark.parametrize("by", ["latent", "columns", "distance"])
def test_our_planner_reaches_goals_with_anybody_s_model(square: Callable[..., Any], by: str) -> None:
    world, log = square("continuous", "image")
    perception, model = (box(Exact(log.signature, 2, 2)) for box in (PictureLatent, WindowModel))
    readout = None
    if by == "columns":
        place = torch.rand(300, 2, generator=torch.Generator().manual_seed(1))
        shown = {"image": world.show(place)["image"][:, None]}
        readout = read_out(perception, Labelled(shown, torch.zeros(300, 0, 2), place, ("x", "y")))
    planner = ICEM.Config(samples=24, iterations=2, elites=4, horizon=4)
    ours = OurPlanner(log.signature, perception, model, readout, planner, log=log if by == "distance" else None)
    assert world.reached(ours, count=25) > 0.9
    assert world.random_floor() < 0.3


# Packages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "package"), [
    (lightly, "lightly.models.modules"), (stable_worldmodel, "transformers"), (torch_world, "torch_world.nn"),
])
def test_a_package_that_is_missing_is_asked_for_by_its_extra(
    module: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    made = Signature({"image": ObservationSpec("image", (64, 64, 3))}, AMOUNTS)
    with pytest.raises(UsageError, match=r"steersman\[bench\]"):
        module.build(made, module.Config())


@pytest.mark.parametrize("module", [lightly, stable_worldmodel, torch_world])
def test_a_log_without_one_picture_is_refused(module: Any, square: Callable[..., Any]) -> None:
    _, log = square("continuous", "vector")
    with pytest.raises(MismatchError, match="one picture a moment"):
        module.train(log, module.Config(), 1.0)


def test_an_unknown_rival_is_refused() -> None:
    with pytest.raises(UsageError, match="a rival of lightly-lewm"):
        table.rival("dreamer")


@pytest.mark.parametrize("name", [name for name, one in table.RIVALS.items() if one.kind == "policy"])
def test_a_policy_acts_alike_after_it_was_stored(name: str, square: Callable[..., Any], tmp_path: Path) -> None:
    world, log = square("discrete", "vector")
    cost = table.train(name, log, 0.01, 0, tmp_path)
    assert cost.steps >= 1
    one, two = (table.load(name, log.signature, tmp_path) for _ in range(2))
    place, goal = torch.rand(2, 6, 2)
    assert isinstance(one, GoalPolicy)
    assert isinstance(two, GoalPolicy)
    assert torch.equal(one(world.show(place), world.show(goal)), two(world.show(place), world.show(goal)))
