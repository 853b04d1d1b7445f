"""The model card: what a stored agent learned from, what it takes and gives, what was measured, how to use it.

Writes Markdown with the front matter that model hubs read; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from steersman.agent.building.origin import Origin
from steersman.agent.config import AgentConfig
from steersman.agent.fitted.additions import Records
from steersman.core import ActionSpec, Readout, Signature
from steersman.cost import Margins
from steersman.runs.artefacts import Column, Figure, Table

_HEAD = """\
---
library_name: steersman
pipeline_tag: reinforcement-learning
tags:
- world-model
- model-predictive-control
- jepa
- planning
---

# {title}

An agent that learned how a world works from logs of observations and actions, without reward, and that plans in what
it learned. It consists of an encoder ({perception}), a world model ({world_model}) and a planner ({planner}).
Made with `steersman`.
"""

_USE = """\
## How to load

```python
import torch

from steersman import Task
from steersman.agent import from_pretrained
from steersman.core import {goal_class}

agent = from_pretrained("THIS FOLDER OR ITS HUB ID")
goal = {goal}
plan = agent.act(observation, Task(goal))  # observation: {observation}
plan.action, plan.feasible, plan.reason
```

Loading executes nothing: there is no pickle and no code in this folder, sizes are compared before anything is
allocated, and an altered file is refused.
"""

_LIMITS = """\
## Limits

- It knows the world of its log and no other. Where the log has not been, its predictions are guesses.
- Plans follow the model's errors: measure under the protocol that matters to you before anything depends on it.
- A guardrail is as good as the read-out and the model behind it. Zero violations in N episodes bounds the rate at about
  3/N, it does not mean "never". Put an independent interlock behind anything that can do harm.
"""


def model_card(
    config: AgentConfig, signature: Signature, readout: Readout | None, origin: Origin, records: Records
) -> str:
    """The text of README.md."""
    sections = [
        _HEAD.format(
            title=f"{origin.recipe or 'An agent'} (steersman)", perception=_kind(config.perception),
            world_model=_kind(config.world_model), planner=_kind(config.planner),
        ),
        _further(config), _trained(origin), _signature(signature), _measured(origin.evaluation),
        _guardrails(readout), _kept(records), _usage(signature, readout), _LIMITS,
    ]
    return "\n".join(section.rstrip() + "\n" for section in sections if section)


def _further(config: AgentConfig) -> str:
    """What else the agent consists of."""
    single = ("critic", "memory", "configurator", "corrector")
    rows = [(name, _kind(part)) for name in single if (part := getattr(config, name)) is not None]
    rows += [(f"policy `{_cell(name)}`", _kind(policy)) for name, policy in sorted(config.policies.items())]
    return "## What else it consists of\n\n" + _grid(("box", "class"), rows) if rows else ""


def _kind(config: object) -> str:
    return type(config).__qualname__.partition(".")[0]


def _trained(origin: Origin) -> str:
    rows = [
        ("log", _words([(origin.episodes, "episodes"), (origin.steps, "steps")])),
        ("SHA-256 of the log", f"`{origin.fingerprint}`" if origin.fingerprint else ""),
        ("recipe", _cell(origin.recipe)),
        ("optimiser steps", _steps(origin)),
        ("objectives", _cell(", ".join(origin.objectives))),
        ("run", f"`{_cell(origin.run)}`, {_cell(origin.created)}" if origin.run else ""),
        ("made with", _cell(", ".join(f"{name} {version}" for name, version in origin.versions.items()))),
    ]
    known = [(label, value) for label, value in rows if value]
    if not known:
        return "## What it was trained on\n\nNot recorded.\n"
    return "## What it was trained on\n\n" + _grid(("", ""), known)


def _steps(origin: Origin) -> str:
    if origin.checkpoint is None:
        return ""
    return f"{origin.checkpoint:,}" + (f" of {origin.planned:,}" if origin.planned else "")


def _words(counts: Sequence[tuple[int | None, str]]) -> str:
    return ", ".join(f"{count:,} {what}" for count, what in counts if count is not None)


def _signature(signature: Signature) -> str:
    rows = []
    for name, spec in sorted(signature.observations.items()):
        shape = "×".join(map(str, spec.shape))
        rows.append((f"observation `{_cell(name)}`", f"{spec.kind} {shape}", _cell(", ".join(spec.columns))))
    rows.append(("action", f"{signature.action.kind} {signature.action.size}", _bounds(signature.action)))
    rows += [(f"exogenous `{_cell(name)}`", "known in advance", "") for name in signature.exogenous]
    return "## What it takes and gives\n\n" + _grid(("what", "shape", "columns or limits"), rows)


def _bounds(action: ActionSpec) -> str:
    if action.kind == "none":
        return "nobody acted in its log: it perceives and foresees"
    if action.kind == "discrete":
        return f"choices 0 to {action.choices - 1}"
    pairs = [f"{low:g} to {high:g}" for low, high in zip(action.low, action.high, strict=True)]
    names = action.names or [""] * len(pairs)
    return _cell(", ".join(f"{name} {pair}".strip() for name, pair in zip(names, pairs, strict=False)))


def _measured(tables: Sequence[Table]) -> str:
    text = "## What was measured\n\n"
    if not tables:
        return text + "Nothing yet: `steersman evaluate RUN` measures, and saving again writes it here.\n"
    return text + "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    protocol = ", ".join(f"{name} {value}" for name, value in table.protocol.items() if value is not None)
    columns = tuple(_cell(f"{column.title} ({column.unit})" if column.unit else column.title)
                    for column in table.columns)
    rows = [
        (_cell(f"{row.group}: {row.label}" if row.group else row.label),
         *(_figure(row.figures.get(column.key), column) for column in table.columns))
        for row in table.rows
    ]
    notes = "".join(f"- {_line(note)}\n" for note in table.notes)
    setting = f"Protocol: {_line(protocol)}.\n\n" if protocol else ""
    return f"### {_line(table.title)}\n\n{setting}{_grid(('', *columns), rows)}\n{notes}"


def _figure(figure: Figure | None, column: Column) -> str:
    if figure is None or figure.value is None:
        return "–"

    def say(value: float) -> str:
        if column.form == "share":
            return f"{100 * value:.1f}%"
        return f"{value:,.0f}" if column.form == "count" else f"{value:.4g}"

    if figure.low is None or figure.high is None:
        return say(figure.value)
    return f"{say(figure.value)} [{say(figure.low)}, {say(figure.high)}]"


def _guardrails(readout: Readout | None) -> str:
    text = (
        "## Guardrails\n\nLimits belong to the task and are not stored in a model: whoever uses it sets them, and they "
        "hold at every imagined step. "
    )
    if readout is None:
        return text + "This model has no read-out, so that limits on named columns need one to be fitted first.\n"
    names = ", ".join(f"`{_cell(name)}`" for name in readout.columns)
    example = "`steersman serve FOLDER --keep 'COLUMN<=NUMBER'`"
    return text + f"Columns that can be limited: {names}. For example {example}.\n"


def _kept(records: Records) -> str:
    if not records:
        return ""
    rows = [(f"`{_cell(c.name)}`", "cost, sealed" if c.seal is not None else "cost", _kind(c.fitted or c.config))
            for c in records.costs]
    rows += [(f"`{_cell(g.name)}`", f"guardrail, {_cell(_stated(g.config))}", _kind(g.config))
             for g in records.guardrails]
    rows += [(f"`{_cell(p.name)}`", "policy, `agent.policies`", _kind(p.config)) for p in records.policies or ()]
    return ("## What was fitted and is kept with it\n\nTasks weigh the costs by their names and take guardrails from "
            "`agent.guardrails`; none counts that is not named.\n\n" + _grid(("name", "what", "class"), rows))


def _stated(config: object) -> str:
    """What a guardrail says of itself: its margin's level, or the share that it refuses."""
    share, margin = getattr(config, "share", None), getattr(config, "margin", None)
    margins = margin.values() if isinstance(margin, dict) else (margin,)
    levels = sorted({m.level for m in margins if isinstance(m, Margins)})
    if isinstance(share, float):
        return f"refuses {share:.1%} of bad states"
    return f"margin at {', '.join(f'{level:.1%}' for level in levels)}" if levels else "no stated level"


def _usage(signature: Signature, readout: Readout | None) -> str:
    observation = ", ".join(f'"{name}": {spec.kind} {list(spec.shape)}'
                            for name, spec in sorted(signature.observations.items()))
    if readout is not None and readout.columns:
        goal_class, goal = "ColumnGoal", f'ColumnGoal({{"{readout.columns[0]}": 0.0}})'
    else:
        goal_class, goal = "ObservationGoal", "ObservationGoal(what_the_goal_looks_like)"
    return _USE.format(goal_class=goal_class, goal=_line(goal), observation=_line(f"{{{observation}}}"))


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _line(text: str) -> str:
    """On one line, and no HTML: names and titles come from logs."""
    return " ".join(text.replace("<", "&lt;").replace("`", "'").split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
