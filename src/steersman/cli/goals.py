"""Goals and limits as words: "1,0,0", "speed=0,cos=1", a picture's file; "speed<=6"."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.core import Goal, Guardrail, Readout, Signature
    from steersman.cost import Box

_LIMIT = re.compile(r"\s*([^<>=]+?)\s*(<=|>=)\s*(\S+)\s*")
_HOW = "give the observation's numbers (1,0,0), named columns (speed=0) or a picture's file"


def goal(text: str, signature: Signature) -> Goal:
    """What `--goal` says.

    Raises:
        UsageError: it does not fit the signature.
    """
    if Path(text).is_file():
        return _picture(Path(text), signature)
    if "=" in text:
        return _columns(text, signature)
    return _numbers(text, signature)


def _numbers(text: str, signature: Signature) -> Goal:
    import torch

    from steersman.core import ObservationGoal

    vectors = {name: spec for name, spec in signature.observations.items() if spec.kind == "vector"}
    if len(vectors) != 1 or len(signature.observations) != 1:
        raise UsageError(f"a goal for {_names(signature)}", repr(text), "name columns or give a picture")
    (name, spec), = vectors.items()
    values = [_number(word, text) for word in text.split(",")]
    if len(values) != spec.shape[0]:
        columns = f" ({', '.join(spec.columns)})" if spec.columns else ""
        raise UsageError(f"{spec.shape[0]} numbers{columns} as a goal", f"{len(values)} in {text!r}", _HOW)
    return ObservationGoal({name: torch.tensor(values)})


def _columns(text: str, signature: Signature) -> Goal:
    from steersman.core import ColumnGoal
    from steersman.cost import column_names

    known, targets = column_names(signature), {}
    for word in text.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in known:
            raise UsageError(f"columns among {', '.join(known) or 'none'} in a goal", repr(name), "correct the name")
        targets[name] = _number(value, text)
    return ColumnGoal(targets)


def _picture(path: Path, signature: Signature) -> Goal:
    import numpy as np
    import torch
    from PIL import Image

    from steersman.core import ObservationGoal

    images = {name: spec for name, spec in signature.observations.items() if spec.kind == "image"}
    if len(images) != 1 or len(signature.observations) != 1:
        raise UsageError(f"a goal for {_names(signature)}", f"the picture {path}", "name columns instead")
    (name, spec), = images.items()
    height, width, channels = spec.shape
    try:
        with Image.open(path) as image:
            if image.size != (width, height):
                raise UsageError(f"a picture of {width}×{height} pixels", "{}×{}".format(*image.size), "resize it")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except OSError as error:
        raise UsageError(f"a picture in {path}", f"{error}", "give a PNG") from error
    return ObservationGoal({name: torch.from_numpy(pixels.reshape(spec.shape))})


def _names(signature: Signature) -> str:
    return ", ".join(f"{spec.kind} {name}" for name, spec in signature.observations.items())


def limits(texts: tuple[str, ...], agent: Agent) -> tuple[Guardrail, ...]:
    """What `--keep` says: limits on columns, and names of guardrails that are kept with the agent.

    Raises:
        UsageError: neither of the form COLUMN<=NUMBER or COLUMN>=NUMBER nor a kept name, or no read-out knows columns.
    """
    return tuple(_kept(text, agent) or limit(text, agent.readout) for text in texts)


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
