"""Observations as people write them: a picture, arrays in files, numbers; by name where there are several.

Knows the signature that they must fit, and no agent. Whatever does not fit is a UsageError that says what would.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from steersman.core import ObservationGoal, Signature, UsageError

HOW = ("give the observation's numbers (1,0,0), named columns (speed=0), a file (.png, .npy, .npz), a moment of the "
       "log (log:3:40) or FILE.py:FUNCTION")


def from_file(path: Path, signature: Signature) -> ObservationGoal:
    """Observations from a file: an .npz holds them by name, any other file the only one."""
    if path.suffix == ".npz":
        found = arrays(path)
        stray = sorted(set(found) - set(signature.observations))
        if stray or not found:
            raise UsageError(f"observations among {names_of(signature)} in {path}", ", ".join(stray) or "none",
                             "name its arrays so")
        return ObservationGoal({name: _shaped(value, name, path, signature) for name, value in found.items()})
    kind = "" if path.suffix == ".npy" else "image"
    name = _only(signature, kind, f"the {'file' if not kind else 'picture'} {path}")
    return ObservationGoal({name: _read(path, name, signature)})


def named(name: str, value: str, signature: Signature) -> Tensor:
    """One observation of several: its numbers, or a file."""
    spec = signature.observations.get(name)
    if spec is None:
        raise UsageError(f"observations among {names_of(signature)} in a goal", repr(name), "correct the name")
    if Path(value).is_file():
        return _read(Path(value), name, signature)
    if spec.kind != "vector":
        raise UsageError(f"a file for {name}", repr(value), "give a picture (.png), or .npy")
    return torch.tensor(values_of(value, name, signature))


def from_numbers(text: str, signature: Signature) -> ObservationGoal:
    """The only observation, a vector, from the words of its numbers: "1,0,-0.5"."""
    name = _only(signature, "vector", repr(text))
    return ObservationGoal({name: torch.tensor(values_of(text, name, signature))})


def values_of(text: str, name: str, signature: Signature) -> list[float]:
    """The numbers of the vector observation `name`, from their words."""
    spec = signature.observations[name]
    values = [number(word, text) for word in text.split(",")]
    if len(values) != spec.shape[0]:
        columns = f" ({', '.join(spec.columns)})" if spec.columns else ""
        raise UsageError(f"{spec.shape[0]} numbers{columns} as a goal", f"{len(values)} in {text!r}", HOW)
    return values


def _read(path: Path, name: str, signature: Signature) -> Tensor:
    """One observation from an .npy, or an image from a picture's file."""
    if path.suffix == ".npy":
        return _shaped(arrays(path)[""], name, path, signature)
    return _picture(path, name, signature)


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name, or that of an .npy under ""."""
    try:
        found = np.load(path, allow_pickle=False)
        return {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"an array, or arrays by name, in {path}", f"{error}", "write it with numpy.save or savez") \
            from error


def _shaped(value: NDArray[Any], name: str, path: Path, signature: Signature) -> Tensor:
    spec = signature.observations[name]
    wanted = np.dtype(spec.dtype)
    whole = spec.kind in ("image", "tokens")
    if value.shape != spec.shape or value.dtype.kind not in "uif" or not np.isfinite(value).all() or (
            whole and value.dtype != wanted):
        raise UsageError(f"finite numbers {spec.shape} ({wanted}) for {name} in {path}",
                         f"{value.dtype} {value.shape}{unfit(value)}", "show the goal as the world would")
    return torch.from_numpy(value.astype(wanted))


def unfit(value: NDArray[Any]) -> str:
    """What is wrong with the numbers of an array, in words; "" if nothing is."""
    return " with NaN or infinity" if value.dtype.kind == "f" and not np.isfinite(value).all() else ""


def _picture(path: Path, name: str, signature: Signature) -> Tensor:
    spec = signature.observations[name]
    if spec.kind != "image":
        raise UsageError(f"numbers or an .npy for the {spec.kind} {name}", f"the picture {path}", HOW)
    height, width, channels = spec.shape
    try:
        with Image.open(path) as image:
            if image.size != (width, height):
                raise UsageError(f"a picture of {width}×{height} pixels", "{}×{}".format(*image.size), "resize it")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except OSError as error:
        raise UsageError(f"a picture in {path}", f"{error}", "give a PNG") from error
    return torch.from_numpy(pixels.reshape(spec.shape))


def _only(signature: Signature, kind: str, got: str) -> str:
    """The name of the only observation, if it is of that kind."""
    specs = [(name, spec) for name, spec in signature.observations.items() if kind in ("", spec.kind)]
    if len(specs) != 1 or len(signature.observations) != 1:
        form = ";".join(f"{name}={'FILE' if spec.kind == 'image' else '0,…'}"
                        for name, spec in signature.observations.items())
        raise UsageError(f"a goal for {names_of(signature)}", got, f"give observations by name: {form}")
    return specs[0][0]


def names_of(signature: Signature) -> str:
    """The observations with their kinds, in words."""
    return ", ".join(f"{spec.kind} {name}" for name, spec in signature.observations.items())


def number(word: str, text: str) -> float:
    """A finite number from its word; text: what it is part of, for the error."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"numbers in {text!r}", repr(word.strip()), HOW)
    return value
