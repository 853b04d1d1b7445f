"""Which learned task each moment is encoded for: from the names that a task says to numbers of an encoder's tokens.

Knows tasks and names, no encoder. Shapes: B episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.core.errors import ConfigError, MismatchError
from steersman.core.task import ColumnGoal, Task, TaskSettings


def task_numbers(task: Task | None, tasks: Sequence[str], episodes: int) -> Tensor:
    """(B,) int64: 1 + the place of what each episode attends to in `tasks`; 0 for none in particular.

    Raises:
        MismatchError: a task that was not learned, or names for another number of episodes.
    """
    attend = "" if task is None else task.settings.attend
    names = (attend,) * episodes if isinstance(attend, str) else attend
    if len(names) != episodes:
        raise MismatchError(f"a learned task for each of {episodes} episodes", f"{len(names)}",
                            "name one for all, or one for each")
    places = {name: i for i, name in enumerate(("", *tasks))}
    unknown = next((name for name in names if name not in places), None)
    if unknown is not None:
        raise MismatchError(f"a learned task of {', '.join(tasks)}", repr(unknown), "correct `attend`")
    return torch.tensor([places[name] for name in names])


def evenly(tasks: Sequence[str], episodes: int, first: int = 0) -> Task | None:
    """A task by which so many episodes attend to all learned tasks and to none, in turn from number `first` on: what a
    read-out for all of them is fitted to. None: there are no tasks."""
    if not tasks:
        return None
    names = ("", *tasks)
    attend = tuple(names[i % len(names)] for i in range(first, first + episodes))
    return Task(ColumnGoal({}), settings=TaskSettings(attend=attend))


def require_tasks(tasks: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: a task of no name, or two of one.
    """
    if "" in tasks or len(set(tasks)) != len(tasks):
        raise ConfigError("tasks of different names", f"{list(tasks)}", "correct `tasks` of the perception")
