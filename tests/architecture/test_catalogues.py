"""Each package's `__init__` is its catalogue: every name that it lists exists and says what it is."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import steersman

PACKAGES = sorted(path.parent.name for path in Path(steersman.__file__).parent.glob("*/__init__.py"))


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_listed_names_exist_and_are_documented(package: str) -> None:
    module = importlib.import_module(f"steersman.{package}".rstrip("."))
    assert module.__all__, f"{module.__name__} lists nothing"
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            documented = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
            assert documented, f"{module.__name__}.{name} has no docstring"


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"it offers: .*Agent"):
        steersman.nonsense  # noqa: B018
