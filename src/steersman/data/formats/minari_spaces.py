"""Spaces as Minari's metadata holds them (JSON) <-> Gymnasium's; a signature as spaces. Builds nothing but spaces."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats.unsound import reading

RECORD = "record the dataset with Minari 0.5 or later"
_LARGEST = 1 << 24
"""Most numbers in one observation or choices of one action."""
_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "float16", "float32", "float64", "bool")


def parse(text: str, where: str) -> Any:
    """A Gymnasium space from Minari's JSON.

    Raises:
        DataError: no JSON, a kind that is not known, sizes that do not fit.
    """
    with reading(f"spaces in the metadata of {where}", fix=RECORD):
        return _space(json.loads(text))


def _space(value: dict[str, Any]) -> Any:
    from gymnasium import spaces

    match value["type"]:
        case "Dict":
            return spaces.Dict({str(key): _space(inner) for key, inner in value["subspaces"].items()})
        case "Tuple":
            return spaces.Tuple([_space(inner) for inner in value["subspaces"]])
        case "Discrete":
            n, start = int(value["n"]), int(value["start"])
            if not 0 < n <= _LARGEST or abs(start) > 1 << 60:
                raise ValueError(f"{n} choices from {start}")
            return spaces.Discrete(n, start=start)
        case "Box":
            shape = tuple(int(n) for n in value["shape"])
            if value["dtype"] not in _DTYPES or min(shape, default=1) < 0 or np.prod(shape, dtype=object) > _LARGEST:
                raise ValueError(f"a Box of {value['dtype']} {shape}")
            low, high = (np.array(value[side], value["dtype"]) for side in ("low", "high"))
            return spaces.Box(low, high, shape, np.dtype(value["dtype"]).type)
        case "MultiBinary":
            return spaces.MultiBinary(min(int(np.prod(value["n"])), _LARGEST))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(value["nvec"], np.int64))
        case kind:
            raise ValueError(f"a space of kind {kind!r}")


def serialise(signature: Signature) -> tuple[str, str]:
    """Observation space and action space of a signature, as Minari's JSON."""
    named = {name: _observation(spec) for name, spec in signature.observations.items()}
    only = next(iter(signature.observations.items()))
    plain = len(named) == 1 and only[0] == only[1].kind
    observation = named[only[0]] if plain else {"type": "Dict", "subspaces": named}
    return json.dumps(observation), json.dumps(_action(signature.action))


def _observation(spec: ObservationSpec) -> dict[str, Any]:
    low, high, dtype = (0, 255, "uint8") if spec.kind == "image" else (-np.inf, np.inf, "float32")
    return _box(np.full(spec.shape, low), np.full(spec.shape, high), dtype)


def _action(spec: ActionSpec) -> dict[str, Any]:
    if spec.kind == "discrete":
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": spec.choices}
    return _box(np.array(spec.low), np.array(spec.high), "float32")


def _box(low: Any, high: Any, dtype: str) -> dict[str, Any]:
    return {"type": "Box", "dtype": dtype, "shape": list(low.shape), "low": low.tolist(), "high": high.tolist()}
