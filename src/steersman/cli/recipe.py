"""Flags of a recipe: its keyword parameters, with their types, defaults and docstring; and changes by dotted path."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tyro

from steersman.core.errors import ConfigError, UsageError
from steersman.core.parts import convert
from steersman.runs.files import parse_json

_PLAIN = (bool, int, float, str)


def said(words: Sequence[str], flag: str) -> str | None:
    """The value that `words` give to `--flag`, before anything is parsed."""
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def named(name: str) -> Callable[..., Any]:
    """The recipe of this name, or the `recipe` in the user's own Python file of this name.

    Raises:
        UsageError: there is none.
    """
    if name.endswith(".py"):
        from steersman.cli.own import load

        function: Callable[..., Any] = load(Path(name), "recipe")
        return function
    from steersman.recipes import recipe

    return recipe(name)


def parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any, str]]:
    """Name -> (type, default, help) of the keyword parameters that a flag can set."""
    hints = typing.get_type_hints(function)
    texts = _documented(function.__doc__ or "")
    return {
        name: (hints[name], p.default, texts.get(name, ""))
        for name, p in inspect.signature(function).parameters.items()
        if p.default is not p.empty and name in hints and _settable(hints[name])
    }


def with_flags(kind: type, function: Callable[..., Any]) -> Any:
    """The command class `kind` with one more option for each parameter of a recipe that it does not have itself."""
    own = {field.name for field in dataclasses.fields(kind)}
    more = [
        (name, Annotated[hint, tyro.conf.arg(help=text or f"See the recipe's `{name}`.")],
         dataclasses.field(default=default))
        for name, (hint, default, text) in parameters(function).items() if name not in own
    ]
    made = dataclasses.make_dataclass(kind.__name__, more, bases=(kind,), frozen=True, kw_only=True)
    made.__doc__ = kind.__doc__
    return made


def arguments(call: Any, function: Callable[..., Any]) -> dict[str, Any]:
    """What the words of a command say about a recipe's parameters."""
    return {name: getattr(call, name) for name in parameters(function) if hasattr(call, name)}


def _settable(hint: Any) -> bool:
    """Plain values, literals, tuples of plain values, and any of these or None."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN or hint is type(None) or origin is typing.Literal:
        return True
    return bool(inner) and origin is not dict and all(x is ... or _settable(x) for x in inner)


def _documented(text: str) -> dict[str, str]:
    """Parameter -> its help, from lines such as `steps, seed   what they are` and the lines that continue them."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        match = re.fullmatch(r"([a-z_]\w*(?:, [a-z_]\w*)*)(?:\s{2,}|: )(\S.*)", line)
        if match:
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2])
        elif names and line.startswith("   ") and line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def changed(config: Any, changes: Sequence[str]) -> Any:
    """`config` with values set by path: `batch_size=64`, `agent.planner.samples=200`, `objectives.0.weight=2`.

    A value is read as JSON, or as text if it is none.

    Raises:
        UsageError: not of the form PATH=VALUE, or a path that does not exist.
        ConfigError: a value of the wrong type, or one that the configuration refuses.
    """
    if not changes:
        return config
    plain = _open(msgspec.to_builtins(config))
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise UsageError("a change of the form PATH=VALUE", repr(change), "e.g. --set batch_size=64")
        try:
            value = parse_json(text)
        except msgspec.DecodeError:
            value = text
        _put(plain, path.split("."), value, change)
    try:
        converted: Any = convert(plain, type(config))
        return converted
    except msgspec.ValidationError as error:
        raise ConfigError("values that fit the configuration", f"{error}", "correct --set") from error


def _open(value: Any) -> Any:
    """Plain values with lists for tuples, so that an entry can be set."""
    if isinstance(value, dict):
        return {key: _open(inner) for key, inner in value.items()}
    return [_open(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _put(plain: Any, path: list[str], value: Any, change: str) -> None:
    for i, key in enumerate(path):
        known: Mapping[Any, Any] | None = None
        if isinstance(plain, dict):
            known = plain
        elif isinstance(plain, list) and key.isdecimal():
            known = dict(enumerate(plain))
        at: Any = int(key) if isinstance(plain, list) and key.isdecimal() else key
        if known is None or at not in known:
            names = ", ".join(map(str, known)) if known is not None else "no name: it is a value"
            raise UsageError(f"a path that the configuration has, for {change!r}", f"{'.'.join(path[: i + 1])}",
                             f"there is {names}")
        if i == len(path) - 1:
            plain[at] = value
        plain = plain[at]
