"""Requests and responses as bytes: JSON, or safetensors with the JSON part in its metadata. Executes nothing.

    JSON         {"observation": {"vector": [0.1, …]}, "goal": {"columns": {"speed": 0}}, "seed": 0}
    safetensors  tensors "observation.NAME", "goal.NAME", "exogenous.NAME", "actions"; metadata {"request": "the rest
                 as JSON"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode_tensors
from safetensors.torch import save as encode_tensors
from torch import Tensor

from steersman.core import CheckpointError
from steersman.runs.files import parse_json
from steersman.runs.tensors import parse_header

JSON = "application/json"
SAFETENSORS = "application/x-safetensors"
_NAMED = ("observation.", "goal.", "exogenous.")


class Malformed(Exception):
    """A body that is not of the form that it claims; the message is for the client."""


class GoalWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to: what the goal looks like, or columns and their values (scale: size of an error that counts as 1)."""

    observation: dict[str, Any] = {}
    columns: dict[str, float] = {}
    scale: dict[str, float] = {}


class BudgetWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one decision may cost, at most what the server allows."""

    calls: int | None = None
    seconds: float | None = None


class EncodeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /encode."""

    observation: dict[str, Any] = {}


class ActRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /act. There is no field for guardrails: they were given when the server started.

    exogenous  name of each exogenous input -> its value while each of the next steps acts, at least `horizon` of them
    weights    name of a cost term -> weight (default: the goal alone; a picture by a temporal distance, if one is kept)
    horizon    steps to look ahead (default: the planner's)
    seed       of the session's first decision
    session    decisions of one session go on from one another: history, warm start; "" remembers nothing
    """

    observation: dict[str, Any] = {}
    exogenous: dict[str, Any] = {}
    goal: GoalWords = GoalWords()
    weights: dict[str, float] = {}
    horizon: int | None = None
    budget: BudgetWords = BudgetWords()
    seed: int = 0
    session: str = ""


class ImagineRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /imagine: K action sequences (K, H, A), or one (H, A), from one observation; exogenous: as in /act."""

    observation: dict[str, Any] = {}
    exogenous: dict[str, Any] = {}
    actions: list[Any] | None = None


R = TypeVar("R", EncodeRequest, ActRequest, ImagineRequest)


@dataclass(frozen=True)
class Body:
    """A request's words, and what came as tensors: "observation.NAME", "goal.NAME", "exogenous.NAME", "actions"."""

    words: Any
    tensors: Mapping[str, Tensor]

    def observation(self) -> dict[str, Any]:
        return {**self.words.observation, **self._named("observation.")}

    def goal(self) -> dict[str, Any]:
        return {**self.words.goal.observation, **self._named("goal.")}

    def exogenous(self) -> dict[str, Any]:
        return {**self.words.exogenous, **self._named("exogenous.")}

    def actions(self) -> Any:
        return self.tensors.get("actions", self.words.actions)

    def _named(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}


def decode(content: bytes, kind: str, form: type[R]) -> Body:
    """The body of a request of type `form`; kind: the Content-Type without parameters.

    Raises:
        Malformed: not of this form.
    """
    try:
        if kind == JSON:
            return Body(parse_json(content, form), {})
        header = parse_header(content, "the body")
        unknown = [name for name in header if not name.startswith(_NAMED) and name != "actions"]
        if unknown:
            raise Malformed(f"expected tensors {', '.join(f'{x}NAME' for x in _NAMED)} or actions; got {unknown[0]!r}")
        tensors = decode_tensors(content)
        return Body(parse_json(_metadata(content).get("request", "{}"), form), tensors)
    except (msgspec.MsgspecError, CheckpointError, SafetensorError) as error:
        raise Malformed(" ".join(str(error).split())[:300]) from error


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    raw = parse_json(content[8 : 8 + length], dict[str, msgspec.Raw]).get("__metadata__")
    return {} if raw is None else parse_json(bytes(raw), dict[str, str])


def as_tensor(value: Any, what: str, whole: bool) -> Tensor:
    """Nested lists or a tensor -> float32, or whole numbers as int64. Finite, and nothing is rounded silently.

    Raises:
        Malformed: ragged, not numbers, not finite.
    """
    try:
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise Malformed(f"expected numbers in rows of one length in {what}; got {type(error).__name__}") from error
    if array.dtype.kind not in ("iu" if whole else "iuf"):
        raise Malformed(f"expected {'whole numbers' if whole else 'numbers'} in {what}; got {array.dtype}")
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise Malformed(f"expected finite numbers in {what}; got NaN or infinity")
    if array.dtype == np.uint64:
        raise Malformed(f"expected numbers of an ordinary size in {what}; got {array.dtype}")
    return torch.from_numpy(np.array(array, np.int64 if whole else np.float32))


def encode(answer: Mapping[str, Any], kind: str) -> bytes:
    """Tensors among the values become lists, or tensors of a safetensors file."""
    if kind == SAFETENSORS:
        tensors = {name: x.contiguous().clone() for name, x in _flat(answer).items()}
        words = {name: x for name, x in answer.items() if not isinstance(x, (Tensor, dict)) or _plain(x)}
        return encode_tensors(tensors, {"response": msgspec.json.encode(words).decode()})
    return msgspec.json.encode(answer, enc_hook=lambda x: x.tolist())


def _plain(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(x, Tensor) for x in value.values())


def _flat(answer: Mapping[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in answer.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, dict):
            found |= {f"{name}.{key}": x for key, x in value.items() if isinstance(x, Tensor)}
    return found
