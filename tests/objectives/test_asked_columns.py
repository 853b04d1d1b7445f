"""The error of what a window's task asks for, and of nothing else: against a loop, with repeats left out."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, ObservationSpec, Signature
from steersman.core.learning import Attending, Encoded, LearningBatch, Seen
from steersman.core.types import Latent, Window
from steersman.objectives import AskedColumns

SIGNATURE = Signature({"image": ObservationSpec("image", (8, 8, 1)),
                       "far": ObservationSpec("vector", (1,), ("z",)),
                       "near": ObservationSpec("vector", (2,), ("x", "y"))}, ActionSpec("none"))
CONFIG = AskedColumns.Config(tasks={"a": ("x", "z"), "b": ("y",)}, always=("y",), weight=3.0)


def batch(task, config=CONFIG, measured=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    b, t = len(task), 3
    values = {"near": 5 + 2 * torch.randn(b, t, 2, generator=g), "far": torch.randn(b, t, 1, generator=g)}
    window = Window(values, torch.zeros(b, t - 1, 0), None, torch.arange(b), torch.zeros(b, dtype=torch.int64),
                    measured or {})
    states = torch.randn(b, t, 4, generator=g, requires_grad=True)
    made = {Encoded(): Seen(Latent(states))}
    if config.tasks:
        made[Attending(tuple(config.tasks))] = torch.tensor(task)
    return LearningBatch(window, made), states


def by_loop(objective, given, states):
    """Window by window, column by column."""
    columns, errors = ["y", "x", "z"], []
    place = {"x": ("near", 0), "y": ("near", 1), "z": ("far", 0)}
    task = given.of(Attending(("a", "b")))
    known = given.window.measured
    for b in range(len(states)):
        for column in [("y",), ("x", "z"), ("y",)][int(task[b])]:
            name, i = place[column]
            values, c = given.window.observations[name][..., i], columns.index(column)
            rows = known.get(name, torch.ones_like(values, dtype=torch.bool))
            every = values[rows]
            for t in range(states.shape[1]):
                if rows[b, t]:
                    y = (values[b, t] - every.mean()) / every.std(correction=0)
                    read = objective.weight[task[b], c] @ states[b, t] + objective.bias[task[b], c]
                    errors.append((read - y) ** 2)
    return 3.0 * torch.stack(errors).mean()


@pytest.mark.parametrize("repeats", [False, True])
def test_it_is_what_a_loop_gives(repeats):
    torch.manual_seed(1)
    objective = CONFIG.build(SIGNATURE, (4,), None)
    torch.nn.init.normal_(objective.bias)
    known = {"near": torch.rand(5, 3, generator=torch.Generator().manual_seed(2)) > 0.4} if repeats else None
    given, states = batch([0, 1, 2, 1, 2], measured=known)
    loss = objective(given)
    torch.testing.assert_close(loss.total, by_loop(objective, given, states))
    assert float(loss.parts["asked"]) == pytest.approx(loss.total.item() / 3)


def test_a_window_is_taught_what_its_task_asks_for_by_the_head_of_its_task():
    objective = CONFIG.build(SIGNATURE, (4,), None)
    given, _ = batch([1, 1])
    objective(given).total.backward()
    asked = objective.weight.grad.abs().sum(2) > 0  # columns y, x, z
    assert asked.tolist() == [[False] * 3, [False, True, True], [False] * 3]


def test_where_no_task_is_learned_what_is_always_asked_counts():
    config = AskedColumns.Config(always=("x",))
    objective = config.build(SIGNATURE, (2, 2), None)
    assert objective.needs == (Encoded(),)
    given, states = batch([0, 0], config)
    assert objective(LearningBatch(given.window, {Encoded(): Seen(Latent(states.unflatten(2, (2, 2))))})).total > 0


def test_in_evaluation_nothing_is_followed():
    objective = CONFIG.build(SIGNATURE, (4,), None)
    objective(batch([0, 1])[0])
    before = objective.state_dict()["moments"].clone()
    objective.eval()(batch([0, 1], seed=1)[0])
    assert torch.equal(objective.moments, before)


@pytest.mark.parametrize(("config", "says"), [
    (AskedColumns.Config(), "got none"), (AskedColumns.Config(tasks={"a": ("xx",)}), "x, y, z; got 'xx'")])
def test_columns_that_there_are_not_are_refused(config, says):
    with pytest.raises(ConfigError, match=says):
        config.build(SIGNATURE, (4,), None)
