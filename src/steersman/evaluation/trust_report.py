"""What was measured of a model's trustworthiness, as a table, curves and sentences. Computes nothing."""

from __future__ import annotations

from typing import Literal

from steersman.runs.artefacts import Column, Figure, Limit, Line, Lines, Row, Table
from steersman.runs.trust import Errors, Trust

NAME = "trust"
"""Tables of this name and lines that begin with it stand in the report's own section."""
_MOST_COLUMNS = 8
_NEARLY_LINEAR = 0.1
"""Share of the error of no change below which the linear model's says that the world is."""


def sentences(trust: Trust) -> list[str]:
    """What a person should take away, in plain words."""
    unit = "columns' deviations" if trust.judged == "columns" else "of the latent's deviation"
    rank, coverage = trust.rank, trust.coverage
    told = [horizon_sentence(trust)]
    at = max(trust.horizon, 1) - 1
    radius = trust.bounds.up_to[at]
    if radius is not None:
        told.append(f"{trust.level:.0%} of predictions lie within {radius:.3g} {unit} at every step up to {at + 1}.")
    share = f"{rank.mean:.1%}"
    told.append(
        "Nobody acts, so there is no true-action rank." if not rank.candidates else
        f"True-action rank: the model holds {share} of random actions ({rank.low:.1%} to {rank.high:.1%}) likelier "
        f"than the logged one; {rank.chance:.0%} for the action of another moment, which is chance.")
    if coverage.mean is not None:
        half = trust.units // 2
        expected = min(1.0, trust.level * (1 + 1 / half))
        told.append(f"Checked on {trust.unit}s that the bound was not calibrated on: {coverage.mean:.1%} within it,"
                    f" over random halves; about {expected:.1%} is to be expected of {half} {trust.unit}s.")
    if coverage.later is not None:
        told.append(f"Calibrated on the earlier half and counted in the later: {coverage.later:.1%} "
                    f"({coverage.low:.1%} to {coverage.high:.1%}).")
    return [*told, *trust.notes]


def horizon_sentence(trust: Trust) -> str:
    """How far the model is better than the simplest of predictors; where it is not, than which, and what that means."""
    if trust.horizon < 1:
        return _beaten(trust)
    rest = "as far as was measured" if trust.horizon == trust.steps else f"of {trust.steps} measured"
    since = f"from step {trust.begins} " if trust.begins > 1 else ""
    told = f"The model beats no change and a linear model {since}up to step {trust.horizon}, {rest}."
    if trust.begins > 1:
        errors = _judged(trust)
        told += f" Before that one of them is finer: at step 1 {_pair(errors.linear[0])} (linear) and " \
                f"{_pair(errors.persistence[0])} (no change) beside {_pair(errors.model[0])}, {_unit(trust)}."
    return told


def _beaten(trust: Trust) -> str:
    """Why the horizon is 0. A nearly linear world is no fault of the model, and plans in it may serve all the same."""
    errors = _judged(trust)
    model, still, linear = errors.model[-1] or 0.0, errors.persistence[-1] or 0.0, errors.linear[-1] or 0.0
    figures = (f"at step {trust.steps} it is off by {_pair(model)}, no change by {_pair(still)}, a linear model by "
               f"{_pair(linear)}, {_unit(trust)}")
    if model >= still:
        return (f"The model does not predict better than no change ({figures}): do not plan with it. Train longer, or "
                "record more.")
    if linear < _NEARLY_LINEAR * still:
        return (f"The model predicts better than no change, but a linear model predicts better still ({figures}): what "
                "this log shows is all but linear. Plans may serve; a linear controller serves better. To learn more "
                "than that, record what is not linear: larger actions, farther states.")
    return (f"The model does not predict better than both no change and a linear model ({figures}): train longer or "
            "record more before planning with it.")


def _judged(trust: Trust) -> Errors:
    return trust.columns or trust.latent


def _unit(trust: Trust) -> str:
    return "in columns' deviations" if trust.judged == "columns" else "in latent deviations"


def _pair(value: float | None) -> str:
    return "?" if value is None else f"{value:.2g}"


def table(trust: Trust) -> Table:
    """Errors and bounds at a few steps."""
    errors = _judged(trust)
    unit = "dev." if trust.judged == "columns" else "latent dev."
    rows = []
    for step in _some(trust.steps, trust.horizon):
        i = step - 1
        kind: Literal["agent", "baseline"] = "agent" if trust.begins <= step <= trust.horizon else "baseline"
        rows.append(Row(label=f"step {step}", kind=kind, figures={
            "model": Figure(value=errors.model[i], low=errors.low[i], high=errors.high[i]),
            "persistence": Figure(value=errors.persistence[i]), "linear": Figure(value=errors.linear[i]),
            "each": Figure(value=trust.bounds.each[i]), "up_to": Figure(value=trust.bounds.up_to[i]),
            "episode": Figure(value=trust.bounds.episode[i]),
        }))
    level = f"{trust.level:.0%}"
    return Table(
        name=NAME, title="How far it can be trusted",
        columns=(
            Column(key="model", title="error", unit=unit, better="lower"),
            Column(key="persistence", title="no change"), Column(key="linear", title="linear model"),
            Column(key="each", title=f"{level} within"), Column(key="up_to", title="at all steps so far"),
            Column(key="episode", title="from all starts of an episode"),
        ),
        rows=tuple(rows), notes=tuple(sentences(trust)),
        protocol={"on": trust.source, "episodes": trust.episodes, "windows": trust.windows,
                  "checkpoint": trust.checkpoint, "independent pieces": f"{trust.units} {trust.unit}s"},
    )


def curves(trust: Trust) -> list[Lines]:
    """Error by horizon beside the baselines, bounds by horizon, and the same for each column in its own unit."""
    x = tuple(float(h + 1) for h in range(trust.steps))
    errors = _judged(trust)
    unit = "columns' deviations" if trust.judged == "columns" else "latent deviations"
    level = f"{trust.level:.0%}"
    figures = [
        Lines(name=f"{NAME}-error", title="Prediction error by horizon", x_title="steps ahead",
              y_title=f"root mean square, {unit}",
              lines=(Line(label="model", x=x, y=errors.model, low=errors.low, high=errors.high, role="imagined"),
                     Line(label="no change", x=x, y=errors.persistence, role="baseline"),
                     Line(label="linear model", x=x, y=errors.linear, role="other")),
              caption=f"{horizon_sentence(trust)} The band is 95%, by bootstrap over {trust.unit}s.", order=1),
        Lines(name=f"{NAME}-bound", title=f"{level} of predictions lie within", x_title="steps ahead", y_title=unit,
              lines=(Line(label="this step", x=x, y=trust.bounds.each, role="imagined"),
                     Line(label="all steps so far", x=x, y=trust.bounds.up_to, role="margin"),
                     Line(label="… from all starts of an episode", x=x, y=trust.bounds.episode, role="other")),
              limits=(Limit(label="spread of the log", y=1.0),),
              caption=f"Conformal over {trust.units} {trust.unit}s that were never trained on.", order=2),
    ]
    for i, (name, e) in enumerate(list(trust.by_column.items())[:_MOST_COLUMNS]):
        band = trust.bands[name]
        figures.append(Lines(
            name=f"{NAME}-column-{i}", title=f"Error of {name}", x_title="steps ahead", y_title=name, order=3 + i,
            lines=(Line(label="model", x=x, y=e.model, low=e.low, high=e.high, role="imagined"),
                   Line(label="no change", x=x, y=e.persistence, role="baseline"),
                   Line(label="linear model", x=x, y=e.linear, role="other"),
                   Line(label=f"{level} within, at all steps", x=x, y=band.together, role="margin")),
            caption="In the column's own unit."))
    return figures


def _some(steps: int, horizon: int) -> list[int]:
    """Steps that tell the story: 1, 2, 5, 10, …, the trusted one, the last."""
    usual = [m * 10**e for e in range(6) for m in (1, 2, 5)]
    return sorted({s for s in [*usual, horizon, steps] if 1 <= s <= steps})
