"""Windows become what objectives see: equal to a loop over windows and starts, for every kind of part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    Belief,
    Imagined,
    Latent,
    Observation,
    ObservationSpec,
    Perception,
    Rollouts,
    Signature,
    Task,
    Window,
    WorldModel,
)
from steersman.training import imagine_windows
from steersman.world_model import RecurrentModel, TransformerModel

SIGNATURE = Signature(
    {"vector": ObservationSpec("vector", (3,))}, ActionSpec("continuous", low=(-1.0,) * 2, high=(1.0,) * 2), ("wind",)
)


class Surveyor(Perception):
    """Its state is the observation, its map is the observation in four places, its attention counts rows."""

    latent_shape = (3,)
    context_shape = (2, 2, 3)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        x = observation["vector"]
        return Latent(x, None, x.cumsum(-1))

    def survey(self, observation: Observation) -> Tensor:
        return torch.stack([observation["vector"] * k for k in range(4)], -2)


class MapAdder(WorldModel):
    """s' = s + sum of the map + action + exogenous: every input must be the right row for this to come out right."""

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        assert latent.context is not None
        past = actions.sum(1).sum(-1, keepdim=True)  # history counts, too
        return Belief(latent.state[:, -1] + 0.1 * latent.state.sum(1) + past, latent.context[:, -1])

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        assert belief.context is not None
        assert exogenous is not None
        drive = belief.context.sum(1)[:, None, None] + actions.sum(-1, keepdim=True) + exogenous[:, None]
        start = belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1)
        states = torch.cat([start, start + drive.cumsum(2)], 2)
        return Imagined(states, belief.context, attention=states[:, :, :-1] * 2)


def window(b: int, steps: int) -> Window:
    g = torch.Generator().manual_seed(0)
    return Window(
        {"vector": torch.randn(b, steps + 1, 3, generator=g)},
        torch.rand(b, steps, 2, generator=g) * 2 - 1,
        torch.randn(b, steps, 1, generator=g),
        torch.arange(b),
        torch.arange(b),
    )


def parts(name: str) -> tuple[Perception, WorldModel]:
    perception = Surveyor()
    torch.manual_seed(0)
    models = {
        "map": MapAdder,
        "recurrent": lambda: RecurrentModel.Config().build(SIGNATURE, (3,), None),
        "transformer": lambda: TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=16).build(
            SIGNATURE, (3,), None
        ),
    }
    return perception, models[name]().eval()


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("name", ["map", "recurrent", "transformer"])
def test_equals_a_loop_over_windows_and_starts(name: str, history: int) -> None:
    perception, model = parts(name)
    w, starts, horizon = window(3, 9), torch.tensor([2, 3, 5]), 4
    with torch.no_grad():
        batch = imagine_windows(perception, model, w, starts, horizon, history)
        for b in range(3):
            for i, t in enumerate(starts.tolist()):
                seen = {"vector": w.observations["vector"][b : b + 1, t - history + 1 : t + 1]}
                latent = Latent(perception.encode(seen).state, perception.survey(seen))
                assert w.exogenous is not None
                past = slice(t - history + 1, t)
                belief = model.begin(latent, w.actions[b : b + 1, past], w.exogenous[b : b + 1, past])
                ahead = slice(t, t + horizon)
                alone = model.imagine(belief, w.actions[b : b + 1, None, ahead], w.exogenous[b : b + 1, ahead])
                torch.testing.assert_close(batch.predicted.states[b, i], alone.states[0, 0])
                if alone.attention is not None:
                    assert batch.predicted.attention is not None
                    torch.testing.assert_close(batch.predicted.attention[b, i], alone.attention[0, 0])
    assert batch.targets().shape == (3, 3, 4, 3)
    torch.testing.assert_close(batch.targets()[1, 2, 0], w.observations["vector"][1, 6])
    assert batch.of(Rollouts()).context is not None
    torch.testing.assert_close(batch.of(Rollouts()).context[2, 1, 3], 3 * w.observations["vector"][2, 3])
    assert batch.latent.attention is not None
    assert batch.latent.attention.shape == (3, 10, 3)


def test_gradients_reach_perception_through_starts_and_targets() -> None:
    perception, model = parts("map")
    w = window(2, 6)
    w.observations["vector"].requires_grad_()
    batch = imagine_windows(perception, model, w, torch.tensor([0, 2]), 4)
    (batch.predicted.states[:, :, 1:] - batch.targets()).square().sum().backward()
    grad = w.observations["vector"].grad
    assert grad is not None
    assert bool((grad[:, :7].abs().sum((0, 2)) > 0).all())
