"""Tokens of learned tasks: each episode has its own, they change what is extracted, and without any nothing changes."""

from __future__ import annotations

import pytest
import torch

from steersman.core import (
    ActionSpec,
    ColumnGoal,
    ConfigError,
    MismatchError,
    ObservationSpec,
    Signature,
    Task,
    TaskSettings,
)
from steersman.perception import MixedEncoder, VectorEncoder, ViTEncoder
from steersman.perception.attending import evenly

SEEN = Signature({"image": ObservationSpec("image", (8, 8, 1)), "vector": ObservationSpec("vector", (2,))},
                 ActionSpec("none"))
SMALL = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 8, "size": 3}
TASKS = ("red", "green")


def pictures(*lead):
    return torch.randint(256, (*lead, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def attending(attend):
    return Task(ColumnGoal({}), settings=TaskSettings(attend=attend))


def encoder(pool="class", registers=1, **changes):
    torch.manual_seed(3)
    built = ViTEncoder.Config(**SMALL, pool=pool, registers=registers, tasks=TASKS, **changes).build(SEEN)
    torch.nn.init.normal_(built.task_tokens)
    return built.eval()


@pytest.mark.parametrize("pool", ["class", "mean", "tokens"])
def test_each_episode_is_encoded_for_its_own_task_at_all_its_moments(pool):
    built, seen = encoder(pool), {"image": pictures(4, 3)}
    names = ("green", "", "red", "green")
    found = built.encode(seen, attending(names)).state
    for i, name in enumerate(names):
        for t in range(3):  # a loop over episodes and moments, each alone
            alone = built.encode({"image": seen["image"][i : i + 1, t : t + 1]}, attending(name)).state
            torch.testing.assert_close(found[i, t], alone[0, 0])
    assert not torch.allclose(found[0], built.encode(seen, attending("red")).state[0])
    assert torch.equal(built.encode(seen).state, built.encode(seen, attending("")).state)


def test_without_tasks_nothing_is_there_and_tasks_change_nothing_else():
    torch.manual_seed(3)
    plain = ViTEncoder.Config(**SMALL, registers=1).build(SEEN)
    assert plain.tasks == ()
    assert "task_tokens" not in plain.state_dict()
    assert torch.equal(plain.encode({"image": pictures(2, 1)}, attending("anything")).state,
                       plain.encode({"image": pictures(2, 1)}).state)
    assert set(encoder().state_dict()) - set(plain.state_dict()) == {"task_tokens"}
    assert encoder().task_tokens.shape == (3, 8)


def test_what_is_visible_is_encoded_for_no_task_in_particular():
    built = encoder("tokens")
    seen, every = pictures(3), torch.arange(4).expand(3, 4)
    whole = built.encode({"image": seen[:, None]}).state[:, 0]
    torch.testing.assert_close(built.encode_visible({"image": seen}, every), whole)


def test_a_mixed_perception_hands_the_task_on():
    torch.manual_seed(0)
    vit = ViTEncoder.Config(**SMALL, tasks=TASKS)
    mixed = MixedEncoder.Config(parts={"image": vit, "vector": VectorEncoder.Config(hidden=(4,), size=2)}).build(SEEN)
    seen = {"image": pictures(2, 1), "vector": torch.zeros(2, 1, 2)}
    assert mixed.tasks == TASKS
    red, green = (mixed.encode(seen, attending(name)).state for name in TASKS)
    assert not torch.equal(red, green)


def test_parts_that_know_other_tasks_are_refused():
    two = Signature(dict.fromkeys(("a", "b"), SEEN.observations["image"]), SEEN.action)
    parts = {"a": ViTEncoder.Config(**SMALL, tasks=("red",)), "b": ViTEncoder.Config(**SMALL, tasks=("green",))}
    with pytest.raises(ConfigError, match="the same tasks in every part"):
        MixedEncoder.Config(parts=parts).build(two)


def test_tasks_that_were_not_learned_are_refused():
    with pytest.raises(MismatchError, match="a learned task of red, green; got 'blue'"):
        encoder().encode({"image": pictures(1, 1)}, attending("blue"))
    with pytest.raises(MismatchError, match="for each of 2 episodes; got 3"):
        encoder().encode({"image": pictures(2, 1)}, attending(("red", "red", "green")))
    for wrong in (("red", "red"), ("",)):
        with pytest.raises(ConfigError, match="tasks of different names"):
            ViTEncoder.Config(tasks=wrong)


def test_read_outs_are_fitted_to_all_tasks_in_turn():
    assert evenly((), 3) is None
    assert evenly(TASKS, 4, first=2).settings.attend == ("green", "", "red", "green")
