"""What an agent went through, on its way into the log of its run. Knows the log and the signature, no boxes.

Shapes: B episodes side by side, A action size, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steersman.agent.moments import moment_of
from steersman.core import MismatchError, Signature, TensorRecord
from steersman.core.recording import Array
from steersman.runs import Run
from steersman.runs.experience import FOLDER
from steersman.runs.experiencing import RETAINED, ExperienceWriter, Moments


@dataclass(frozen=True)
class Transition(TensorRecord):
    """What an action led to in B episodes side by side, or what they begin with.

    observation  name -> (B, …), arrays or tensors: what was observed after the action was carried out
    action       (B, A) what was carried out; None: these moments begin their episodes
    first        (B,) bool: an episode begins with this moment, and its action is not read
    terminal     (B,) bool: the world ended the episode here
    stream       (B,) int64, each another one: the place of a row among the episodes side by side, where only some of
                 them go on; None: 0, 1, …
    exogenous    (B, E) what came from outside while the action acted
    measured     name -> (B,) bool, as `Agent.act` takes it
    time         (B,) float64 seconds of the world's own clock

    A single moment without the dimension B is one row.
    """

    observation: Mapping[str, Any]
    action: Tensor | None = None
    first: Tensor | None = None
    terminal: Tensor | None = None
    stream: Tensor | None = None
    exogenous: Tensor | None = None
    measured: Mapping[str, Tensor] = field(default_factory=dict)
    time: Tensor | None = None


class ExperienceLog:
    """The agent's end of RUN/experience: open for appending, by this process alone, until it is closed."""

    def __init__(
        self, run: Run, signature: Signature, *, retain: int = RETAINED, age: float = float("inf")
    ) -> None:
        """retain: bytes of moments that stay; age: seconds that they stay. The oldest go first.

        Raises:
            LockedError: another process is adding to it. StorageError: the disk refused.
            MismatchError, RunError: a log of another world, damaged, or of a later format.
        """
        self.signature, self.folder = signature, run.path / FOLDER
        self._writer = ExperienceWriter(self.folder, signature, run.manifest.id, retain=retain, age=age)

    @property
    def count(self) -> int:
        """Moments that were ever appended."""
        return self._writer.count

    def append(self, transition: Transition, *, durable: bool = False) -> range:
        """Numbers of the moments; see `ExperienceWriter.append`."""
        moment = moment_of(transition.observation, self.signature)
        observations = {name: value.cpu().contiguous().numpy() for name, value in moment.items()}
        b = len(next(iter(observations.values())))
        discrete = self.signature.action.kind == "discrete"
        return self._writer.append(Moments(
            observations, _rows(transition.action, b, np.int64 if discrete else np.float32, "actions"),
            _rows(transition.stream, b, np.int64, "streams"), _rows(transition.first, b, np.bool_, "`first`"),
            _rows(transition.terminal, b, np.bool_, "`terminal`"),
            _rows(transition.exogenous, b, np.float32, "exogenous inputs"),
            {name: _marks(flags, b, name) for name, flags in transition.measured.items()},
            _rows(transition.time, b, np.float64, "times"),
        ), durable=durable)

    def flush(self) -> None:
        """Wait until everything is on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Wait until everything is on disk, and let others append."""
        self._writer.close()


def _rows(value: Any, b: int, kind: type[np.generic], what: str) -> Array | None:
    """(B, …) of the type that the log keeps; a single row may lack its dimension.

    Raises:
        MismatchError: another number of rows, or numbers that this type cannot hold.
    """
    if value is None:
        return None
    array: Array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if b == 1 and array.shape[:1] != (1,):
        array = array[None]
    if array.shape[:1] != (b,):
        raise MismatchError(f"{what} of {b} rows, one for each moment", f"{array.shape}", "give one for each episode")
    found = array.astype(kind)
    if kind in (np.int64, np.bool_) and not np.array_equal(found, array):
        raise MismatchError(f"{what} of type {np.dtype(kind)}", f"{array.dtype}", f"convert them to {np.dtype(kind)}")
    return found


def _marks(flags: Any, b: int, name: str) -> Array:
    found = _rows(torch.as_tensor(flags), b, np.bool_, f"marks of {name!r} in `measured`")
    assert found is not None
    return found
