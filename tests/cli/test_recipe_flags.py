"""Flags from a recipe's signature, changes by path."""

from __future__ import annotations

import msgspec
import pytest
import tiny_recipe

from steersman.cli.recipe import arguments, changed, parameters, said, with_flags
from steersman.core.errors import ConfigError, UsageError


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 1


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inner: Inner = Inner()
    items: tuple[Inner, ...] = (Inner(), Inner())
    name: str = "a"
    rate: float = 0.1
    on: bool = True

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ConfigError("a rate of at least 0", f"{self.rate}", "raise it")


def test_parameters_are_those_a_flag_can_set_with_their_words() -> None:
    found = parameters(tiny_recipe.recipe)
    assert list(found) == ["steps", "width", "schedule", "seed"]
    assert found["steps"] == (int, 12, "optimiser steps")
    assert found["width"][2] == "numbers in a hidden layer, and nothing else"


def test_a_command_keeps_its_own_options_and_passes_those_of_the_recipe_on() -> None:
    import dataclasses

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Call:
        """Words."""

        seed: int = 9

    call = with_flags(Call, tiny_recipe.recipe)(width=3)
    assert arguments(call, tiny_recipe.recipe) == {"steps": 12, "width": 3, "schedule": "cosine", "seed": 9}


@pytest.mark.parametrize(("words", "value"), [
    (["--data", "x", "--recipe", "a"], "a"), (["--recipe=b"], "b"), (["--recipe"], None), ([], None),
])
def test_the_recipe_is_found_among_the_words(words: list[str], value: str | None) -> None:
    assert said(words, "--recipe") == value


def test_values_are_set_by_path() -> None:
    config = changed(Outer(), ["inner.size=5", "items.1.size=7", "name=b c", "rate=1e-3", "on=false"])
    assert config == Outer(Inner(5), (Inner(1), Inner(7)), "b c", 0.001, False)
    assert changed(Outer(), []) == Outer()


@pytest.mark.parametrize(("change", "kind", "says"), [
    ("inner.sise=5", UsageError, "there is size"), ("size", UsageError, "PATH=VALUE"), ("=3", UsageError, "PATH=VALUE"),
    ("items.9.size=1", UsageError, "there is 0, 1"), ("items.x.size=1", UsageError, "a value"),
    ("name.x=1", UsageError, "it is a value"), ("inner.size=big", ConfigError, "int"), ("on=3", ConfigError, "bool"),
    ("rate=-1", ConfigError, "at least 0"), ("inner=3", ConfigError, "object"),
])
def test_a_change_that_does_not_fit_is_refused(change: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        changed(Outer(), [change])
