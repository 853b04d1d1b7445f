"""Which part of a log is learned from and which is not. Knows a dataset by its lengths and its ways of being cut."""

from __future__ import annotations

from typing import Any

from steersman.core.errors import DataError
from steersman.training.config import TrainConfig


def split(config: TrainConfig, dataset: Any) -> tuple[Any, Any]:
    """The part that is trained on, and the part that comes after it and is not: None if `held_out` is 0.

    None also where the log is so short that the later part would not hold a single window; all of it is learned from
    then.
    """
    if not config.held_out:
        return dataset, None
    try:
        learned, later = held_out(dataset, config.held_out, config.window)
    except DataError:
        return dataset, None
    if min(int(part.lengths.max()) if len(part.lengths) else 0 for part in (learned, later)) < config.window:
        return dataset, None
    return learned, later


def held_out(dataset: Any, share: float, embargo: int) -> tuple[Any, Any]:
    """The first and the last part of a log in recorded order; the last `share` of its episodes, whole.

    Where that is less than one episode, an episode is cut, and `embargo` steps before the cut belong to neither part.
    An embargo that the schema states is kept wherever the parts meet.
    """
    schema = getattr(dataset, "schema", None)
    if schema is not None and schema.embargo:
        first, last = dataset.split(share, by="time", embargo=schema.embargo)
        return first, last
    count = len(dataset.lengths)
    later = round(share * count)
    if not later:
        first, last = dataset.split(share, by="time", embargo=embargo)
        return first, last
    order = dataset.lengths.new_tensor(range(count))
    return dataset.subset(order[: count - later]), dataset.subset(order[count - later :])
