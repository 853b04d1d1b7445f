"""Tokens of learned tasks for predictors: what drives a step is told which task its states were encoded for.

Knows numbers of tasks, no names. Shapes: B problems, T moments, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steersman.core import Belief, ConfigError, Latent, MismatchError


class TaskTokens(nn.Module):
    """One learned token for each of `tasks` tasks, and the first for none in particular.

    A belief carries that of its problem in `shared`, so that all candidates read it and nothing writes it; it is added
    to what drives each step, and so modulates every layer.

        c_t = MLP([a_t, x_t]) + token

    Raises:
        MismatchError: states of a perception that knows more tasks.
    """

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(1 + tasks, width))

    def of(self, latent: Latent) -> Tensor:
        """Of the last of each problem's moments (B, T): (B, W)."""
        none = self.tokens[:1].expand(len(latent.state), -1)
        return none if latent.task is None else self._tokens(latent.task[:, -1])

    def of_each(self, latent: Latent) -> Tensor:
        """Of every moment (B, T), as B·T rows: (B·T, W)."""
        count = latent.state.shape[0] * latent.state.shape[1]
        return self.tokens[:1].expand(count, -1) if latent.task is None else self._tokens(latent.task.flatten())

    def forward(self, belief: Belief) -> Tensor:
        """(B, W): what the belief carries; of no task in particular where it was made without."""
        return belief.shared[0] if belief.shared else self.tokens[:1].expand(len(belief), -1)

    def _tokens(self, number: Tensor) -> Tensor:
        number = number.long()
        if not torch.compiler.is_compiling() and int(number.max()) >= len(self.tokens):
            raise MismatchError(
                f"states of a perception with {len(self.tokens) - 1} tasks", f"task {int(number.max())}",
                "set `tasks` of the world model to the perception's number of tasks")
        found: Tensor = self.tokens[number]
        return found


def task_tokens(tasks: int, width: int, chance: bool) -> TaskTokens | None:
    """Tokens for so many tasks; None: for none.

    Raises:
        ConfigError: tasks, and chance, whose prior is not told of them.
    """
    if tasks < 0 or (tasks and chance):
        raise ConfigError("tasks of at least 0, and none beside a latent variable", f"{tasks}",
                          "leave out one of the two")
    return TaskTokens(tasks, width) if tasks else None
