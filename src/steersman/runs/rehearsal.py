"""Counterexamples that a rehearsal found, kept with the run so that they are tried again: `rehearsal/cases.json`.

Never imports torch.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steersman.core.errors import RunError
from steersman.runs.run import Run

NAME = "rehearsal/cases.json"
Kind = Literal["world", "model", "cornered"]
"""world: the plan was called safe, the world broke the limit. model: following its own plans in its own model, the
agent broke the limit. cornered: no safe plan was found, and what was done instead broke it in the world."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Push(_Part, frozen=True, kw_only=True):
    """One action, held for `steps`."""

    action: tuple[float, ...]
    steps: int


class Case(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """A way into a state from which a guardrail failed.

    env        the environment, begun with `seed`; then `pushes`, whatever the agent thinks of them
    goal, keep the task's, in the command line's words; "" and () where it was given in Python
    decisions  the agent then made, at most; the limit broke after `step` of its actions
    guardrail  that broke, by `margin`
    judge      who said that it broke: "columns", or "world" by its own flag
    found      when; `model`, the fingerprint of who failed
    """

    env: str
    kind: Kind
    seed: int
    pushes: tuple[Push, ...]
    decisions: int
    step: int
    guardrail: str
    margin: float
    goal: str = ""
    keep: tuple[str, ...] = ()
    judge: Literal["columns", "world"] = "columns"
    found: str = ""
    model: str = ""


class Cases(_Part, frozen=True, kw_only=True):
    """All of a run."""

    format: int = 1
    cases: tuple[Case, ...] = ()


def read_cases(run: Run) -> tuple[Case, ...]:
    """The cases of a run, oldest first; none if it was never rehearsed.

    Raises:
        RunError: the file is damaged.
    """
    if not run.extra(NAME).exists():
        return ()
    try:
        return msgspec.convert(run.read_json(NAME), Cases).cases
    except msgspec.ValidationError as error:
        raise RunError(f"cases of a rehearsal in {run.path}", f"{error}", "restore the file, or remove it") from error


def add_case(run: Run, case: Case) -> None:
    """Keep one more; the same way into the same failure is kept once.

    Raises:
        StorageError: the disk refused; the earlier cases stand.
    """
    def way(c: Case) -> tuple[object, ...]:
        return c.env, c.kind, c.seed, c.pushes, c.goal, c.keep, c.judge

    kept = tuple(c for c in read_cases(run) if way(c) != way(case))
    run.write_json(NAME, Cases(cases=(*kept, case)))
