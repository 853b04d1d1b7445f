"""What the boxes share: errors that say what to do, signatures that refuse, records of tensors, lazy names."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import steersman.core as core
from steersman.core import (
    ActionError,
    ActionSpec,
    Belief,
    ConfigError,
    DataError,
    Episode,
    Imagined,
    Latent,
    LearningBatch,
    Level,
    MismatchError,
    ObservationSpec,
    Signature,
    SteersmanError,
    UsageError,
    Window,
)

VECTOR, IMAGE = ObservationSpec("vector", (3,)), ObservationSpec("image", (4, 4, 1))
BOX, CHOICE = ActionSpec("continuous", (-1.0,), (1.0,)), ActionSpec("discrete", choices=3)


def test_an_error_is_one_line_that_says_what_to_do():
    error = DataError("a column\nnamed x", "y", "rename   it")
    assert str(error) == "expected a column named x; got y; rename it"
    assert (error.expected, error.fix) == ("a column\nnamed x", "rename   it")


def test_every_error_is_ours_and_only_usage_exits_with_2():
    kinds = [getattr(core, name) for name in core.__all__ if name.endswith("Error")]
    assert len(kinds) >= 12
    for kind in kinds:
        assert issubclass(kind, SteersmanError)
        assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ObservationSpec("vector", (3, 3)), lambda: ObservationSpec("image", (3, 3)),
        lambda: ObservationSpec("vector", (0,)), lambda: ObservationSpec("vector", (2,), ("a",)),
        lambda: ObservationSpec("image", (2, 2, 1), ("a", "b")), lambda: ActionSpec("discrete"),
        lambda: ActionSpec("discrete", low=(0.0,), choices=2), lambda: ActionSpec("continuous"),
        lambda: ActionSpec("continuous", (0.0,), (1.0, 2.0)), lambda: ActionSpec("continuous", (1.0,), (1.0,)),
        lambda: ActionSpec("continuous", (0.0,), (float("inf"),)),
        lambda: ActionSpec("continuous", (float("nan"),), (1.0,)),
    ],
)
def test_a_specification_that_cannot_be_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_sizes_of_actions():
    assert (BOX.size, BOX.width, CHOICE.size, CHOICE.width) == (1, 1, 1, 3)


def test_signatures_agree_on_shapes_and_kinds_not_on_bounds_or_names():
    mine = Signature({"a": VECTOR}, BOX)
    mine.require(Signature({"a": ObservationSpec("vector", (3,), ("x", "y", "z"))},
                           ActionSpec("continuous", (-2.0,), (3.0,))), "a", "b")
    others = [
        (Signature({"b": VECTOR}, BOX), "observations"), (Signature({"a": IMAGE}, BOX), "observations"),
        (Signature({"a": VECTOR}, CHOICE), "action"), (Signature({"a": VECTOR}, BOX, ("wind",)), "exogenous"),
    ]
    for other, words in others:
        with pytest.raises(MismatchError, match=words):
            mine.require(other, "the model", "the log")


def test_the_only_image_needs_no_name():
    assert Signature({"a": VECTOR, "b": IMAGE}, BOX).image() == "b"
    for bad, name in ((Signature({"a": VECTOR}, BOX), ""), (Signature({"a": IMAGE, "b": IMAGE}, BOX), ""),
                      (Signature({"a": IMAGE}, BOX), "c")):
        with pytest.raises(ConfigError):
            bad.image(name)


def episode(**changes):
    parts = {"observations": {"a": torch.zeros(4, 3)}, "actions": torch.zeros(3, 1), "exogenous": None} | changes
    return Episode(**parts)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"actions": torch.zeros(0, 1), "observations": {"a": torch.zeros(1, 3)}}, DataError, "a one-step episode"),
        ({"observations": {"b": torch.zeros(4, 3)}}, DataError, "observations \\['a'\\]"),
        ({"observations": {"a": torch.zeros(3, 3)}}, DataError, "of shape"),
        ({"observations": {"a": torch.zeros(4, 3).double()}}, DataError, "of type"),
        ({"observations": {"a": torch.full((4, 3), float("nan"))}}, DataError, "NaN or infinity at row 0"),
        ({"actions": torch.tensor([[0.0], [2.0], [0.0]])}, ActionError, "2 at row 1"),
        ({"actions": torch.zeros(3, 2)}, DataError, "actions"),
        ({"actions": torch.full((3, 1), float("inf"))}, DataError, "finite actions"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(changes, error, words):
    signature = Signature({"a": VECTOR}, BOX)
    episode().validate(signature)
    with pytest.raises(error, match=words):
        episode(**changes).validate(signature)


def test_choices_and_exogenous_inputs_are_checked_too():
    signature = Signature({"a": VECTOR}, CHOICE, ("wind",))
    good = {"actions": torch.tensor([[0], [2], [1]]), "exogenous": torch.zeros(3, 1)}
    episode(**good).validate(signature)
    with pytest.raises(ActionError, match="got 3"):
        episode(**good | {"actions": torch.tensor([[0], [3], [1]])}).validate(signature)
    with pytest.raises(ActionError, match="got -1"):
        episode(**good | {"actions": torch.tensor([[0], [-1], [1]])}).validate(signature)
    with pytest.raises(DataError, match="exogenous"):
        episode(**good | {"exogenous": None}).validate(signature)


# Records -----------------------------------------------------------------------------------------------------------


def test_a_function_reaches_every_tensor_of_a_record():
    window = Window({"a": torch.ones(2, 4, 3)}, torch.ones(2, 3, 1), None, torch.arange(2), torch.zeros(2))
    doubled = window.map(lambda x: x * 2)
    assert float(doubled.observations["a"].max()) == float(doubled.actions.max()) == 2
    assert doubled.exogenous is None
    assert window.to(torch.float64).actions.dtype == torch.float64


def test_beliefs_are_repeated_with_neighbours_together():
    belief = Belief(torch.tensor([[1.0], [2.0]]), torch.tensor([[[3.0]], [[4.0]]]), (torch.tensor([[5.0], [6.0]]),))
    twice = belief.repeat(2)
    assert twice.state[:, 0].tolist() == [1, 1, 2, 2]
    assert twice.context[:, 0, 0].tolist() == [3, 3, 4, 4]
    assert twice.carry[0][:, 0].tolist() == [5, 5, 6, 6]
    assert len(twice[torch.tensor([0, 3])]) == 2


def test_an_imagined_future_is_picked_with_all_that_belongs_to_it():
    b, k, h = 2, 3, 4
    states = torch.arange(b * k * (h + 1), dtype=torch.float32).view(b, k, h + 1, 1)
    carry = torch.arange(b * k, dtype=torch.float32).view(b, k, 1)
    imagined = Imagined(states, torch.zeros(b, 5, 6), states[:, :, 1:, 0], None, (carry,))
    picked = imagined.select(torch.tensor([2, 0]))
    assert torch.equal(picked.states[:, 0], states[[0, 1], [2, 0]])
    assert picked.disagreement.shape == (b, 1, h)
    assert picked.carry[0].flatten().tolist() == [2, 3]
    last = imagined.last()
    assert last.state[:, 0].tolist() == states[:, :, -1, 0].flatten().tolist()
    assert last.context.shape == (b * k, 5, 6)
    assert torch.equal(last.carry[0], carry.flatten(0, 1))


def test_targets_are_the_states_that_a_rollout_should_meet():
    states = torch.arange(7.0).view(1, 7, 1).expand(2, 7, 1)
    window = Window({}, torch.zeros(2, 6, 1), None, torch.zeros(2), torch.zeros(2))
    batch = LearningBatch.rolled(window, Latent(states), torch.tensor([0, 3]), Imagined(torch.zeros(2, 2, 4, 1)))
    assert batch.targets()[0, :, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


# Names -------------------------------------------------------------------------------------------------------------


def test_a_level_is_a_plain_record():
    level = Level("planner", "actions", "costs", "belief", 0)
    with pytest.raises(AttributeError):
        level.period = 1


def test_the_catalogue_is_complete_and_says_what_it_offers():
    for name in core.__all__:
        assert getattr(core, name) is not None
    assert dir(core) == core.__all__
    with pytest.raises(AttributeError, match="it offers: Act"):
        core.Nothing  # noqa: B018


def test_errors_and_signatures_do_not_load_torch():
    code = ("import sys; from steersman.core import DataError, Signature, Level; import steersman.core.lazy; "
            "sys.exit('torch' in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
