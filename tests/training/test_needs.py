"""Objectives say what they need: each need is made once, alike on any number of processes, or refused beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from small_world import SIGNATURE, Drift, agent, config
from torch import nn

from steersman.agent import AgentConfig
from steersman.core import (
    ActionSpec,
    Average,
    Carried,
    ConfigError,
    DataError,
    Encoded,
    Explained,
    LearningBatch,
    Loss,
    Need,
    Objective,
    ObservationSpec,
    Rollouts,
    Signature,
    Teacher,
    Views,
    Visible,
    Window,
    register,
)
from steersman.objectives import ExplainedPrediction, Following, Invariance, InverseDynamics, Prediction, VICReg
from steersman.perception import VectorEncoder, ViTEncoder
from steersman.perception.masks import Random
from steersman.perception.views import Noise
from steersman.training import Maker, Making, TrainConfig, create_run, makes, resume, train
from steersman.training.learner import Learner
from steersman.training.processes import Processes

DATA = Drift()
NOISE = Noise.Config(deviation=(0.1, 0.3))
VIEWS = (NOISE, NOISE)


class Asking(Objective):
    """Needs whatever it is told to, and keeps the last batch."""

    seen: LearningBatch | None = None

    def __init__(self, needs: tuple[Need[Any], ...], forbids: Mapping[type[Need[Any]], str]) -> None:
        super().__init__()
        self.asked, self.refused = needs, forbids
        self.head = nn.Linear(8, 8)

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return self.asked

    @property
    def forbids(self) -> Mapping[type[Need[Any]], str]:
        return self.refused

    def forward(self, batch: LearningBatch) -> Loss:
        Asking.seen = batch
        return Loss(sum(p.square().sum() for p in self.head.parameters()), {})


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    needs: Any = ()
    forbids: Any = ()

    def build(self, *_: Any) -> Asking:
        return Asking(tuple(self.needs), dict(self.forbids))


def learner(*objectives: Any, signature: Signature = SIGNATURE, **changes: Any) -> Learner:
    return Learner(config(objectives=objectives, **changes), signature, torch.device("cpu"), Processes())


def windows(count: int = 6, length: int = 8) -> Window:
    return DATA.windows(torch.arange(count), torch.zeros(count, dtype=torch.long), length)


def test_each_need_is_made_once_however_many_objectives_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    encode = VectorEncoder.encode
    monkeypatch.setattr(VectorEncoder, "encode", lambda *a, **k: calls.append(1) or encode(*a, **k))
    learner(Prediction.Config(), VICReg.Config(), InverseDynamics.Config()).step(windows(), 0)
    assert len(calls) == 1
    calls.clear()
    learner(Invariance.Config(views=VIEWS), VICReg.Config(views=VIEWS), Prediction.Config()).step(windows(), 0)
    assert len(calls) == 3, "the moments as they are, and two views that both objectives share"


def test_a_step_makes_nothing_that_nobody_needs() -> None:
    batch = learner(Invariance.Config(views=VIEWS), VICReg.Config(views=VIEWS)).step(windows(), 0).batch
    assert {type(need).__name__ for need in batch.made} == {"Looks", "Views"}
    with pytest.raises(KeyError, match="Encoded among what was made; got Looks, Views"):
        batch.latent  # noqa: B018


NONE = Signature(SIGNATURE.observations, ActionSpec("none"))


@pytest.mark.parametrize(
    ("objectives", "changes", "signature", "said"),
    [
        ((InverseDynamics.Config(),), {}, NONE, "a log with actions"),
        ((InverseDynamics.Config(),), {"window": 0, "rollout": ()}, SIGNATURE, "windows of a single moment"),
        ((Prediction.Config(),), {"window": 0, "rollout": ()}, NONE, "windows of at least one step"),
        ((Prediction.Config(),), {"agent": AgentConfig(perception=VectorEncoder.Config())}, SIGNATURE, "world model"),
        ((Following.Config(),), {}, SIGNATURE, "set feed='streams'"),
        ((ExplainedPrediction.Config(),), {}, SIGNATURE, "leaves something to chance; got ResidualModel"),
        ((Ask(needs=(Visible(Random.Config()),)),), {}, SIGNATURE, "tokens that masks can hide; got VectorEncoder"),
        ((Ask(needs=(Views(()),)),), {}, SIGNATURE, "at least one view"),
        ((Ask(needs=(Encoded(),)),), {"prioritise": True}, SIGNATURE, "needs of Encoded; set prioritise=False"),
        ((Ask(needs=(Teacher(Carried()),)),), {"feed": "streams"}, SIGNATURE, "a teacher of latents"),
        ((Prediction.Config(), Ask(forbids=((Rollouts, "this one has its own"),))), {}, SIGNATURE,
         "this one has its own; got one that needs Rollouts"),
    ],
)
def test_what_cannot_be_met_is_refused_before_training(
    objectives: tuple[Any, ...], changes: dict[str, Any], signature: Signature, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        learner(*objectives, signature=signature, **changes)
    assert "\n" not in f"{caught.value}"


@dataclass(frozen=True)
class Middle(Need[torch.Tensor]):
    """The moment in the middle of each window."""


def test_a_need_of_somebody_elses_has_a_maker_of_theirs() -> None:
    with pytest.raises(ConfigError, match="a maker for Middle; got none"):
        learner(Ask(needs=(Middle(),)))

    @makes(Middle)
    class MakeMiddle(Maker[Middle, torch.Tensor]):
        def within(self, need: Middle) -> tuple[Need[Any], ...]:
            return (Encoded(),)

        def make(self, need: Middle, making: Making) -> torch.Tensor:
            state = making.of(Encoded()).latent.state
            return state[:, state.shape[1] // 2]

    batch = learner(Ask(needs=(Middle(),))).step(windows(), 0).batch
    assert torch.equal(batch.of(Middle()), batch.latent.state[:, 4])


def test_a_teacher_follows_its_schedule_sees_the_same_views_and_passes_no_gradient() -> None:
    need = Teacher(Views(VIEWS), Average(0.9, 1.0))
    made = learner(Ask(needs=(Views(VIEWS), need)), steps=4, schedule="constant", warmup=0)
    head = made.parts["objectives"].objectives[0].head
    batch = made.step(windows(), 0).batch
    taught, own = batch.of(need), batch.of(Views(VIEWS))
    for theirs, mine in zip(taught.made.latents, own.latents, strict=True):
        assert not theirs.state.requires_grad
        assert torch.equal(theirs.state, mine.state), "at first the teacher is the student, and looks at the same"
    twin = taught.twin(head)
    assert twin is not head
    expected = {name: x.clone() for name, x in twin.state_dict().items()}
    for step in range(1, 4):
        made.step(windows(), step)
        decay = 1 - 0.1 * (1 + math.cos(math.pi * step / 4)) / 2
        for name, x in head.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * x
    for name, x in twin.state_dict().items():
        torch.testing.assert_close(x, expected[name])
    assert not torch.allclose(twin.weight, head.weight)


def test_a_teacher_is_the_average_of_all_modules() -> None:
    average = Average(0.5, 0.5)
    made = learner(Ask(needs=(Teacher(Encoded(), average),)), Prediction.Config(), VICReg.Config())
    expected = {name: x.detach().clone() for name, x in made.parts.named_parameters()}
    for step in range(3):
        made.step(windows(), step)
        for name, x in made.parts.named_parameters():
            expected[name] = 0.5 * expected[name] + 0.5 * x.detach()
    state = made.training_state()
    for name, x in expected.items():
        torch.testing.assert_close(state[f"teacher.0.{name}"], x)


@pytest.mark.parametrize("objectives", [
    (Prediction.Config(), VICReg.Config()), (Invariance.Config(views=VIEWS), VICReg.Config(views=VIEWS)),
])
def test_a_window_gets_the_same_random_numbers_however_many_processes_share_the_batch(objectives: Any) -> None:
    c = config(objectives=objectives, start_noise=0.5)
    made = Learner(c, SIGNATURE, torch.device("cpu"), Processes())

    def batch(window: Window, processes: Processes) -> LearningBatch:
        torch.manual_seed(3)
        made.processes = processes
        return made.make(window, c.stages[0])

    whole, w = batch(windows(), Processes()), windows()
    for rank in range(2):
        part = batch(w.rows(slice(3 * rank, 3 * rank + 3)), Processes(rank, 2))
        rows = slice(3 * rank, 3 * rank + 3)
        if Rollouts() in part.made:
            torch.testing.assert_close(part.predicted.states, whole.predicted.states[rows])
        else:
            for theirs, mine in zip(part.of(Views(VIEWS)).latents, whole.of(Views(VIEWS)).latents, strict=True):
                torch.testing.assert_close(theirs.state, mine.state[rows])


def test_visible_tokens_and_masks_are_made_for_every_moment() -> None:
    signature = Signature({"image": ObservationSpec("image", (16, 16, 3))}, ActionSpec("none"))
    tiny = ViTEncoder.Config(patch=4, width=16, heads=2, hidden=16, depth=1, size=8, pool="tokens")
    need = Visible(Random.Config())
    made = learner(Ask(needs=(need, Teacher(Encoded()))), signature=signature,
                   agent=AgentConfig(perception=tiny), window=2, rollout=())
    pictures = torch.randint(0, 256, (6, 3, 16, 16, 3), dtype=torch.uint8)
    rows = torch.arange(6)
    batch = made.step(Window({"image": pictures}, torch.zeros(6, 2, 0), None, rows, rows), 0).batch
    glimpse = batch.of(need)
    assert glimpse.tokens.shape[0] == glimpse.masked.context.shape[0] == 18
    assert batch.of(Teacher(Encoded())).made.latent.state.shape == (6, 3, 16, 8)
    shown = set(glimpse.masked.context[0].tolist())
    assert shown.isdisjoint(glimpse.masked.targets[0].flatten().tolist())


@register(Objective)
class Push(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="push-teacher"):
    """The student's views should be where the teacher's are."""

    def build(self, *_: Any) -> Pushed:
        return Pushed()


class Pushed(Objective):
    teacher = Teacher(Views(VIEWS), Average(0.9, 1.0))

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Views(VIEWS), self.teacher)

    def forward(self, batch: LearningBatch) -> Loss:
        mine, theirs = batch.of(Views(VIEWS)).latents[0].state, batch.of(self.teacher).made.latents[1].state
        error = (mine - theirs).square().mean()
        return Loss(error, {"push": error.detach()})


def single_moments(folder: Path | None, steps: int, objectives: Any) -> TrainConfig:
    return config(agent=AgentConfig(perception=VectorEncoder.Config(hidden=(16,), size=4)), objectives=objectives,
                  window=0, rollout=(), batch_size=32, steps=steps, lr=1e-2)


class Moments(Drift):
    """Single moments: episodes of no step, in which nobody acts."""

    def __init__(self) -> None:
        super().__init__()
        self.points = self.states.flatten(0, 1) * 2
        self.lengths = torch.zeros(len(self.points), dtype=torch.int64)
        self.signature = NONE

    def windows(self, episode: torch.Tensor, start: torch.Tensor, length: int) -> Window:
        assert length == 0
        return Window({"vector": self.points[episode, None]}, torch.zeros(len(episode), 0, 0), None, episode, start)


@pytest.mark.parametrize("objectives", [
    (Invariance.Config(views=VIEWS), VICReg.Config(views=VIEWS)), (Push(), VICReg.Config(views=VIEWS)),
])
def test_single_moments_without_actions_are_learned_from_and_resumed_exactly(tmp_path: Path, objectives: Any) -> None:
    data = Moments()
    for name in ("whole", "parts"):
        create_run(tmp_path / name, single_moments(None, 40, objectives), data, recipe="test").close()
    from steersman.runs import Run

    whole = train(single_moments(None, 40, objectives), data, Run.open(tmp_path / "whole"))
    count = iter(range(1000))
    train(single_moments(None, 40, objectives), data, Run.open(tmp_path / "parts"), stop=lambda: next(count) >= 17)
    rest = resume(tmp_path / "parts", dataset=data)
    assert rest.step == 40
    assert rest.world_model is None
    for a, b in zip(whole.perception.state_dict().values(), rest.perception.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    losses = [row["loss"] for row in Run.open(tmp_path / "whole").metrics.read() if "loss" in row]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_chance_is_explained_where_a_world_model_leaves_something_to_it() -> None:
    from steersman.world_model import ResidualModel
    from steersman.world_model.latent_variable import Gaussian

    forked = AgentConfig(perception=agent().perception,
                         world_model=ResidualModel.Config(width=16, latent_variable=Gaussian.Config(size=2)))
    made = learner(ExplainedPrediction.Config(), VICReg.Config(), agent=forked)
    step = made.step(windows(), 0)
    rolled = step.batch.of(Explained())
    assert rolled.nats is not None
    assert rolled.nats.shape == (6, 2, 4)
    assert step.parts["nats"] >= 0
    assert all(p.grad is None for p in made.parts.parameters())  # let go of after the step


def test_a_log_of_single_moments_is_told_what_learns_from_it() -> None:
    with pytest.raises(DataError, match=r"got the longest has 0; learn from single moments: .*--recipe pictures"):
        train(config(objectives=(Prediction.Config(), VICReg.Config())), Moments(), None)
