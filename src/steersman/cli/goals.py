"""Goals and limits as words: "1,0,0", "speed=0,cos=1", a file, a moment of the log, a function; "speed<=6"."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from steersman.agent import Agent
    from steersman.core import Goal, Guardrail, Imagined, ObservationGoal, Readout, Signature
    from steersman.cost import Box

_LIMIT = re.compile(r"\s*([^<>=]+?)\s*(<=|>=)\s*(\S+)\s*")
_CODE = re.compile(r"(?P<place>[\w./\\-]+):(?P<name>[A-Za-z_]\w*)")
_MOMENT = re.compile(r"log:(?:(?P<episode>\d+):)?(?P<row>\d+)")
_HOW = ("give the observation's numbers (1,0,0), named columns (speed=0), a file (.png, .npy, .npz), a moment of the "
        "log (log:3:40) or FILE.py:FUNCTION")


def goal(text: str, agent: Agent, run: Path | str | None = None) -> Goal:
    """What `--goal` says, in the words that its help lists: whatever can be said in Python.

        1,0,0              the only observation, a vector     ObservationGoal: the agent reads it as columns, or encodes
        speed=0,cos=1~0.2  columns, with a scale or without   ColumnGoal
        FILE               a picture, .npy, or .npz by name   ObservationGoal
        eye=FILE;arm=1,0   several observations               ObservationGoal
        log:3:40, log:40   a moment of the run's log          ObservationGoal
        latent:GOAL        any of these observations, encoded LatentGoal
        latent=FILE.npy    a latent itself                    LatentGoal
        MODULE:FUNCTION    an energy, see `CallableGoal`      CallableGoal

    run  whose log has the moments

    Raises:
        UsageError: it does not fit the agent; says what would.
    """
    if not text.startswith("latent="):
        _require_files(text)
    if text.startswith("latent:"):
        return _encoded(text.removeprefix("latent:"), agent, run)
    if (observation := _observation(text, agent.signature.world, run)) is not None:
        return observation
    if text.startswith("latent=") and "latent" not in _columns_of(agent):
        return _latent(Path(text.removeprefix("latent=")), agent)
    if match := _CODE.fullmatch(text):
        return _code(match["place"], match["name"])
    if "=" in text:
        return _columns(text, agent)
    return _numbers(text, agent.signature)


def _require_files(text: str) -> None:
    """Raises UsageError where words that can only be meant as a file name none."""
    for part in text.removeprefix("latent:").split(";"):
        path = part.rpartition("=")[2].strip()
        if path.endswith((".npy", ".npz")) and not (Path(path).is_file() or Path(text).is_file()):
            raise UsageError(f"a file {path} as a goal", "no such file", "check the path")


def _observation(text: str, signature: Signature, run: Path | str | None) -> ObservationGoal | None:
    """A file, a moment, or named observations; None: something else."""
    if match := _MOMENT.fullmatch(text):
        return _moment(match, run)
    if Path(text).is_file():
        return _file(Path(text), signature)
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    if not parts or not {name.strip() for name, _, _ in parts[:1]} <= set(signature.observations) or not parts[0][1]:
        return None
    from steersman.core import ObservationGoal

    return ObservationGoal({name.strip(): _named(name.strip(), value.strip(), signature) for name, _, value in parts})


def _named(name: str, value: str, signature: Signature) -> Tensor:
    """One observation of several: its numbers, or a file."""
    import torch

    spec = signature.observations.get(name)
    if spec is None:
        raise UsageError(f"observations among {_names(signature)} in a goal", repr(name), "correct the name")
    if Path(value).is_file():
        return _read(Path(value), name, signature)
    if spec.kind != "vector":
        raise UsageError(f"a file for {name}", repr(value), "give a picture (.png), or .npy")
    return torch.tensor(_values(value, name, signature))


def _numbers(text: str, signature: Signature) -> Goal:
    import torch

    from steersman.core import ObservationGoal

    name = _only(signature, "vector", repr(text))
    return ObservationGoal({name: torch.tensor(_values(text, name, signature))})


def _values(text: str, name: str, signature: Signature) -> list[float]:
    spec = signature.observations[name]
    values = [_number(word, text) for word in text.split(",")]
    if len(values) != spec.shape[0]:
        columns = f" ({', '.join(spec.columns)})" if spec.columns else ""
        raise UsageError(f"{spec.shape[0]} numbers{columns} as a goal", f"{len(values)} in {text!r}", _HOW)
    return values


def _columns_of(agent: Agent) -> tuple[str, ...]:
    return tuple(agent.readout.columns) if agent.readout is not None else ()


def _columns(text: str, agent: Agent) -> Goal:
    from steersman.core import ColumnGoal

    known = _columns_of(agent)
    if not known:
        raise UsageError("a run whose columns can be read from its latent, for a goal on columns", repr(text),
                         f"give a whole observation of {_names(agent.signature)}: numbers, a file (.png, .npy, .npz) "
                         "or a moment of the log (log:3:40)")
    targets: dict[str, float] = {}
    scale: dict[str, float] = {}
    for word in text.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in known:
            raise UsageError(f"columns among {', '.join(known)} in a goal", repr(name), "correct the name")
        if name in targets:
            raise UsageError("one value for each column in a goal", f"{name!r} twice in {text!r}", "leave one of them")
        value, tilde, size = value.partition("~")
        targets[name] = _number(value, text)
        if tilde:
            scale[name] = _number(size, text)
            if scale[name] <= 0:
                raise UsageError("a size above 0 after ~: the error that counts as 1", repr(word), "correct it")
    return ColumnGoal(targets, scale)


def _file(path: Path, signature: Signature) -> ObservationGoal:
    """Observations from a file: an .npz holds them by name, any other file the only one."""
    from steersman.core import ObservationGoal

    if path.suffix == ".npz":
        arrays = _arrays(path)
        stray = sorted(set(arrays) - set(signature.observations))
        if stray or not arrays:
            raise UsageError(f"observations among {_names(signature)} in {path}", ", ".join(stray) or "none",
                             "name its arrays so")
        return ObservationGoal({name: _shaped(value, name, path, signature) for name, value in arrays.items()})
    kind = "" if path.suffix == ".npy" else "image"
    name = _only(signature, kind, f"the {'file' if not kind else 'picture'} {path}")
    return ObservationGoal({name: _read(path, name, signature)})


def _read(path: Path, name: str, signature: Signature) -> Tensor:
    """One observation from an .npy, or an image from a picture's file."""
    if path.suffix == ".npy":
        return _shaped(_arrays(path)[""], name, path, signature)
    return _picture(path, name, signature)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
        return {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"an array, or arrays by name, in {path}", f"{error}", "write it with numpy.save or savez") \
            from error


def _shaped(value: NDArray[Any], name: str, path: Path, signature: Signature) -> Tensor:
    import numpy as np
    import torch

    spec = signature.observations[name]
    wanted = np.dtype(spec.dtype)
    whole = spec.kind in ("image", "tokens")
    if value.shape != spec.shape or value.dtype.kind not in "uif" or not np.isfinite(value).all() or (
            whole and value.dtype != wanted):
        raise UsageError(f"finite numbers {spec.shape} ({wanted}) for {name} in {path}",
                         f"{value.dtype} {value.shape}{_unfit(value)}", "show the goal as the world would")
    return torch.from_numpy(value.astype(wanted))


def _unfit(value: NDArray[Any]) -> str:
    import numpy as np

    return " with NaN or infinity" if value.dtype.kind == "f" and not np.isfinite(value).all() else ""


def _picture(path: Path, name: str, signature: Signature) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    spec = signature.observations[name]
    if spec.kind != "image":
        raise UsageError(f"numbers or an .npy for the {spec.kind} {name}", f"the picture {path}", _HOW)
    height, width, channels = spec.shape
    try:
        with Image.open(path) as image:
            if image.size != (width, height):
                raise UsageError(f"a picture of {width}×{height} pixels", "{}×{}".format(*image.size), "resize it")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except OSError as error:
        raise UsageError(f"a picture in {path}", f"{error}", "give a PNG") from error
    return torch.from_numpy(pixels.reshape(spec.shape))


def _moment(match: re.Match[str], run: Path | str | None) -> ObservationGoal:

    from steersman.cli.moments import moment
    from steersman.core import ObservationGoal
    from steersman.runs import Run
    from steersman.training import open_log, stored_config

    if run is None or not (Path(run) / "manifest.json").is_file():
        raise UsageError("a run with a log, for a goal that is one of its moments", f"{run or 'none'}",
                         "give the moment as numbers or a file")
    opened = Run.open(run)
    dataset, pace = open_log(opened), stored_config(opened).pace
    episode, row = moment(dataset, int(match["episode"]) if match["episode"] else None, int(match["row"]))
    assert pace != "auto"
    frames = dataset.moment(episode, row, pace)
    return ObservationGoal({name: value[0] for name, value in frames.items()})


def _encoded(text: str, agent: Agent, run: Path | str | None) -> Goal:
    """An observation as a latent, whatever the agent would make of it."""
    from steersman.cost import resolve

    found: Goal | None = _observation(text, agent.signature.world, run)
    if found is None and ("=" in text or ":" in text):
        raise UsageError("an observation after latent:", repr(text), f"of {_names(agent.signature)}, give all numbers "
                         "(latent:1,0,0), a file, or a moment of the log (latent:log:3:40)")
    found = found or _numbers(text, agent.signature)
    return resolve(found, agent.perception, agent.signature, None, "latent")


def _latent(path: Path, agent: Agent) -> Goal:
    import numpy as np
    import torch

    from steersman.core import Latent, LatentGoal

    shape = agent.perception.latent_shape
    if not path.is_file():
        raise UsageError(f"a file with a latent {shape}", f"{path}", "check the path; latent:1,0,0 encodes numbers")
    value = _arrays(path).get("")
    if value is None or value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
        got = "several arrays" if value is None else f"{value.dtype} {value.shape}{_unfit(value)}"
        raise UsageError(f"a latent {shape} of finite numbers in {path}", got, "save one that this agent encoded")
    return LatentGoal(Latent(torch.from_numpy(value.astype(np.float32))[None]))


def _code(place: str, name: str) -> Goal:
    """`FILE.py:FUNCTION` or `MODULE:FUNCTION`, imported because it was asked for by name."""
    import sys

    from steersman.cli import imports, own
    from steersman.core import CallableGoal

    if place.endswith(".py"):
        function = own.load(Path(place), name)
    else:
        imports.load((place,), "--goal")
        function = getattr(sys.modules[place], name, None)
    if not callable(function):
        raise UsageError(f"a function {name} in {place}: energy(columns, imagined) -> (B, K, H)",
                         "nothing of that name" if function is None else type(function).__name__, "define it there")

    def energy(columns: Mapping[str, Tensor], imagined: Imagined) -> Tensor:
        try:
            found: Tensor = function(columns, imagined)
        except Exception as error:  # code of whoever calls: not a defect of ours
            raise UsageError(f"an energy (B, K, H) from {name} in {place}, of columns {', '.join(columns) or '(none)'}",
                             f"{type(error).__name__}: {error}", "correct it; --debug shows where") from error
        return found

    return CallableGoal(energy, name)


def _only(signature: Signature, kind: str, got: str) -> str:
    """The name of the only observation, if it is of that kind."""
    specs = [(name, spec) for name, spec in signature.observations.items() if kind in ("", spec.kind)]
    if len(specs) != 1 or len(signature.observations) != 1:
        form = ";".join(f"{name}={'FILE' if spec.kind == 'image' else '0,…'}"
                        for name, spec in signature.observations.items())
        raise UsageError(f"a goal for {_names(signature)}", got, f"give observations by name: {form}")
    return specs[0][0]


def _names(signature: Signature) -> str:
    return ", ".join(f"{spec.kind} {name}" for name, spec in signature.observations.items())


def limits(texts: tuple[str, ...], agent: Agent) -> tuple[Guardrail, ...]:
    """What `--keep` says: limits on columns, and names of guardrails that are kept with the agent.

    Raises:
        UsageError: neither of the form COLUMN<=NUMBER or COLUMN>=NUMBER nor a kept name, or no read-out knows columns.
    """
    return tuple(_kept(text, agent) or limit(text, agent.readout) for text in texts)


def weights(texts: tuple[str, ...], agent: Agent, goal: Goal) -> dict[str, float]:
    """What `--weight` says: cost terms of the agent and numbers; the goal weighs 1 unless it is named. Nothing said:
    `agent.distance.weights_towards`.

    Raises:
        UsageError: not of the form TERM=NUMBER, or no such term.
    """
    from steersman.agent.distance import weights_towards

    if not texts:
        return weights_towards(agent, goal)
    known = [getattr(cost, "name", "") for cost in agent.costs]
    found = {"goal": 1.0}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError("TERM=NUMBER", repr(text), "e.g. --weight goal=2") from None
        if name not in known:
            raise UsageError(f"a cost term of {', '.join(known)}", repr(name),
                             "correct --weight, or fit the term first (`steersman fit`)")
    return found


def judges(texts: tuple[str, ...], agent: Agent, shown: Readout) -> tuple[Guardrail, ...]:
    """The same without margins, over what the world shows.

    Raises:
        UsageError: as `limits`, or a kept guardrail that reads something else.
    """
    from steersman.evaluation.measured_limits import over_columns

    kept = [(_kept(text, agent), text) for text in texts]
    return tuple(limit(text, shown) if rail is None else over_columns(rail.bare(), tuple(shown.columns))
                 for rail, text in kept)


def _kept(text: str, agent: Agent) -> Guardrail | None:
    if text in agent.additions.outdated:
        raise UsageError(f"a guardrail {text!r} that was fitted to these weights", "one of others",
                         "fit it again: steersman fit RUN --help")
    return agent.guardrails.get(text)


def limit(text: str, readout: Readout | None) -> Box:
    """A limit on one column.

    Raises:
        UsageError: not of the form COLUMN<=NUMBER or COLUMN>=NUMBER, or no read-out knows columns.
    """
    from steersman.cost import Box

    match = _LIMIT.fullmatch(text)
    known = ", ".join(readout.columns) if readout is not None else ""
    if match is None:
        form = f"COLUMN<=NUMBER or COLUMN>=NUMBER with a column of {known}" if known else "COLUMN<=NUMBER"
        raise UsageError(f"{form}, or the name of a guardrail that is kept with the run", repr(text),
                         "correct --keep; `steersman fit` keeps one")
    if readout is None:
        raise UsageError("a run whose columns can be read from its latent", "none", "train on vector observations")
    if match[1] not in readout.columns:
        raise UsageError(f"COLUMN<=NUMBER or COLUMN>=NUMBER with a column of {known}", repr(text), "correct --keep")
    bound = _number(match[3], text)
    low, high = (-math.inf, bound) if match[2] == "<=" else (bound, math.inf)
    return Box(readout, {match[1]: (low, high)}, name=text)


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"numbers in {text!r}", repr(word.strip()), _HOW)
    return value
