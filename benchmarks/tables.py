"""Tables as people and programs read them: Markdown, JSON. Knows nothing of what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Table:
    """title; rows of columns -> value; notes below; `verdicts` holds the bars: name -> (figure, bar)."""

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: dict[str, tuple[float, float]] = field(default_factory=dict)

    def markdown(self) -> str:
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        lines = [f"### {self.title}", "", _line(columns), _line(["---"] * len(columns))]
        lines += [_line([_text(row.get(column)) for column in columns]) for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)]
        for name, (figure, bar) in self.verdicts.items():
            lines.append(f"- **{name}: {figure:.2f}** (bar {bar:g}: {'met' if figure >= bar else 'not met'})")
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        return asdict(self)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
