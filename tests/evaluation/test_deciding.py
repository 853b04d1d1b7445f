"""Any function can be measured as an agent is: same starts, same floor; what it returns wrongly is said in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steersman.core import (
    ActionError,
    ActionSpec,
    ColumnGoal,
    Guardrail,
    Latent,
    LatentGoal,
    ObservationGoal,
    ObservationSpec,
    Signature,
    Task,
    UsageError,
)
from steersman.evaluation import FunctionPolicy, PlanningProtocol, act_in, evaluate
from steersman.worlds import OURS

PLANE = PlanningProtocol(world=OURS["lqr"], episodes=6, step_limit=12)
SIGNATURE = PLANE.world.signature
(NAME,) = SIGNATURE.observations


def still(seen, goal):
    return torch.zeros(len(seen[NAME]), SIGNATURE.action.size)


def test_a_function_is_measured_on_the_same_starts_beside_the_same_floor():
    told, began = [], []

    def policy(push):
        def act(seen, goal):
            if not told or (len(began) < 2 and push):
                began.append(seen[NAME])
            told.append((len(seen[NAME]), {name: len(x) for name, x in goal.items()}))
            return torch.full((len(seen[NAME]), SIGNATURE.action.size), push)
        return act

    one = evaluate(policy(0.0), PLANE, seed=3)
    other = evaluate(policy(0.1), PLANE, seed=3)
    assert torch.equal(one.random, other.random)
    assert torch.equal(began[0], began[1])
    assert told[0][0] == 6
    assert all(count == sizes[name] for count, sizes in told for name in sizes)  # the goals of those that go on
    assert one.figures()["infeasible_decisions"] == 0
    assert one.planning.shape == (6,)


def test_one_by_one_and_per_episode_give_what_the_batch_gives():
    def rule(seen):
        return -0.2 * seen[NAME][..., : SIGNATURE.action.size].clamp(-1, 1)

    class Counting:
        made = 0

        def __init__(self):
            Counting.made, self.steps = Counting.made + 1, 0

        def __call__(self, seen, goal):
            self.steps += 1
            return rule(seen).numpy()

    batch = evaluate(lambda seen, goal: rule(seen), PLANE, random=False)
    single = evaluate(FunctionPolicy(lambda seen, goal: rule(seen), SIGNATURE, calls="single"), PLANE, random=False)
    episode = evaluate(FunctionPolicy(Counting, SIGNATURE, calls="episode"), PLANE, random=False)
    assert Counting.made == 6
    for other in (single, episode):
        assert torch.equal(batch.steps, other.steps)
        assert torch.equal(batch.trials.observe()[NAME], other.trials.observe()[NAME])


def test_all_actions_that_are_returned_are_carried_out_before_the_next_decision():
    asked = []

    def three(seen, goal):
        asked.append(len(seen[NAME]))
        return torch.zeros(len(seen[NAME]), 3, SIGNATURE.action.size)

    evaluate(three, PLANE, random=False)
    assert len(asked) == 4  # 12 steps


WRONG = {
    "another shape": (lambda seen, goal: torch.zeros(len(seen[NAME]), 7), r"actions of shape \(6, \d\)"),
    "one for all": (lambda seen, goal: torch.zeros(SIGNATURE.action.size), "actions of shape"),
    "NaN": (lambda seen, goal: still(seen, goal) * float("nan"), r"finite actions; got \[nan.*for episode 0"),
    "out of bounds": (lambda seen, goal: still(seen, goal) + 1e6, "actions within.*clamp them"),
    "no numbers": (lambda seen, goal: ["left"] * 6, "a tensor, an array or numbers; got list"),
    "no step": (lambda seen, goal: torch.zeros(6, 0, SIGNATURE.action.size), "actions of shape"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_a_function_returns_wrongly_is_said_in_one_line(fault):
    function, words = WRONG[fault]
    with pytest.raises(ActionError, match=words) as caught:
        evaluate(function, PLANE, random=False)
    assert "\n" not in str(caught.value)


def test_rounding_at_a_bound_is_put_on_it():
    spec = ActionSpec("continuous", (-1.0,), (1.0,))
    policy = FunctionPolicy(lambda seen, goal: np.array([1.000001, -0.5]),
                            Signature({"vector": ObservationSpec("vector", (2,))}, spec))
    plan = policy.act({"vector": torch.zeros(2, 2)}, Task(ObservationGoal({"vector": torch.zeros(2)})))
    assert plan.actions.flatten().tolist() == [1.0, -0.5]


@pytest.mark.parametrize(("made", "words"), [
    (torch.tensor([0, 3]), r"within \[0.0\] and \[2.0\].*\[3.0\] for episode 1"),
    (torch.tensor([0.5, 1.0]), r"choices as whole numbers 0..2"),
    (torch.tensor([True, False]), "choices as whole numbers"),
    (torch.zeros(2, 3), r"actions of shape \(2, 1\)"),
])
def test_choices_are_whole_numbers_that_there_are(made, words):
    sig = Signature({"vector": ObservationSpec("vector", (2,))}, ActionSpec("discrete", choices=3))
    task = Task(ColumnGoal({"x": 1.0}))
    with pytest.raises(ActionError, match=words):
        FunctionPolicy(lambda seen, goal: made, sig).act({"vector": torch.zeros(2, 2)}, task)
    plan = FunctionPolicy(lambda seen, goal: int(goal["x"]), sig, calls="single").act({"vector": torch.zeros(2)}, task)
    assert plan.actions.tolist() == [[[1]]]
    assert plan.actions.dtype == torch.int64


def test_what_a_function_cannot_know_is_refused():
    class Rail(Guardrail):
        name = "rail"

        def margin(self, imagined, actions):
            return actions[..., 0]

    observation = {NAME: torch.zeros(2, *SIGNATURE.observations[NAME].shape)}
    policy = FunctionPolicy(still, SIGNATURE)
    with pytest.raises(UsageError, match=r"a task without guardrails.*rail"):
        policy.act(observation, Task(ColumnGoal({}), guardrails=(Rail(),)))
    with pytest.raises(UsageError, match=r"an observation or columns.*LatentGoal"):
        policy.act(observation, Task(LatentGoal(Latent(torch.zeros(1, 2)))))
    with pytest.raises(UsageError, match="calls of batch, single or episode; got 'many'"):
        FunctionPolicy(still, SIGNATURE, calls="many")


def test_a_function_acts_in_a_gymnasium_environment():
    def swing(seen, goal):
        assert set(goal) == {"speed"}
        return 2 * torch.sign(seen["vector"][:, 2:])

    acted = act_in(swing, "Pendulum-v1", Task(ColumnGoal({"speed": 0.0})), episodes=2, longest=20)
    assert acted.lengths == [20, 20]
    assert acted.returns != acted.random_returns
    assert len(acted.decisions) == 20
