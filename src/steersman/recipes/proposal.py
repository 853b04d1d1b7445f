"""A recipe for one log, as a Python file to read and edit: sizes, horizon and history from what the doctor measured.

Writes text; trains nothing, loads no torch.
"""

from __future__ import annotations

import textwrap

from steersman.core.errors import UsageError
from steersman.core.signature import Pace, Signature
from steersman.data.doctor.report import Report

_PAGE = '''\
"""{title}

{findings}
"""

from __future__ import annotations

from steersman.actor import ICEM
from steersman.agent import AgentConfig
{import_pace}from steersman.objectives import InverseDynamics, Prediction, VICReg
from steersman.perception import {perceptions}
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import {model}


def recipe(*, steps: int = {steps}, seed: int = 0) -> TrainConfig:
    """{path}.

    steps  optimiser steps
    seed   of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            # {why_perception}
            perception={perception},
            # {why_model}
            world_model={world_model},
            history={history},
            # {why_horizon}
            planner=ICEM.Config(samples=128, iterations=3, elites=16, horizon={horizon}, spread=1.0),
            readout={readout},
        ),
        objectives=(
            Prediction.Config(weight={prediction}),  # {why_prediction}
            VICReg.Config(variance=16.0, covariance=4.0),  # keeps the latent from collapsing
            InverseDynamics.Config(weight=1.0),  # keeps what actions change
        ),
        steps=steps,
{pace}        # {why_window}
        window={window},
        batch_size={batch},
        rollout=(RolloutStage(starts=1, horizon={rollout}),),
        held_out={held_out},  # the log's end, never trained on, for `evaluate RUN --offline`; bounds want 9 episodes
        lr={lr},
        seed=seed,
    )
'''


def propose(report: Report, signature: Signature) -> str:
    """The text of a Python file with a function `recipe`, for `steersman train --recipe FILE`."""
    d = report.dynamics
    images = [n for n, spec in signature.observations.items() if spec.kind == "image"]
    vectors = [n for n, spec in signature.observations.items() if spec.kind == "vector"]
    if len(images) + len(vectors) < len(signature.observations):
        others = ", ".join(f"{n} ({s.kind})" for n, s in signature.observations.items() if n not in images + vectors)
        raise UsageError("a log of images and vectors to propose a recipe for", others, "write a recipe of your own")
    width = sum(signature.observations[n].shape[0] for n in vectors)
    size = min(64, max(16, 2 * width))
    pace = Pace() if report.visibility is None else report.visibility.pace
    delay = d.delay if report.visibility is None else -(-report.visibility.delay // pace.step)
    memory = bool(delay) or (bool(d.history) and pace.frames == 1)
    length = max(2, (report.lengths[1] - pace.before) // pace.step)
    history = min(max(2, (delay or 0) + 1), 8, max(2, length // 4)) if memory else 1
    window = history - 1 + max(2, min(8 if vectors and not images else 12, d.horizon or 8, length - history))
    perception, names, why = _perception(images, vectors, size, width)
    model = "TransformerModel" if memory else "ResidualModel"
    horizon = max(3, min(30, d.horizon or 15))
    facts = [f"{f.state}: {f.what}" for f in report.findings] or ["Nothing is the matter with the form of this log."]
    lines = [report.verdict, *facts]
    findings = "\n\n".join(textwrap.fill(" ".join(line.split()), 110) for line in lines).replace("\\", "/")
    findings = findings.replace('"""', "'''")
    return _PAGE.format(
        title=f"A recipe for {_plain(report.path)}, proposed by `steersman init` from what the doctor found there.",
        path=f"{_plain(report.path)}: {report.steps:,} steps in {report.episodes:,} episodes", findings=findings,
        import_pace="" if pace.plain else "from steersman.core import Pace\n",
        pace="" if pace.plain or report.visibility is None else (
            f"        # {_folded(report.visibility.words)}\n"
            f"        pace=Pace(step={pace.step}, frames={pace.frames}, apart={pace.apart}),\n"),
        perceptions=", ".join(sorted({*names, *(["LinearReadout"] if vectors else [])})), perception=perception,
        why_perception=why, model=model,
        world_model=f"TransformerModel.Config(context={history})" if memory else "ResidualModel.Config(width=128)",
        why_model=_why_model(report, history), history=history, horizon=horizon,
        why_horizon=f"the doctor's simple model sees {d.horizon} steps ahead" if d.horizon else
                    "how far ahead one can see was not measured",
        readout="LinearReadout.Config()" if vectors else "None", window=window, rollout=window - history + 1,
        why_window=f"episodes have {report.lengths[0]:,} to {report.lengths[2]:,} steps; shorter ones than the window "
                   "are left out",
        prediction=4.0 if images else 100.0,
        why_prediction="more of it costs what the others keep" if images else
                       "the columns are kept as they are, so little can collapse",
        batch=48 if images else 128, steps=2000 if images else 2500, lr="2e-3" if images or memory else "4e-3",
        held_out=0.1 if report.episodes >= 100 else 0.25,
    )


def _folded(words: str) -> str:
    """A comment of several lines."""
    return "\n        # ".join(textwrap.wrap(words, 108))


def _perception(images: list[str], vectors: list[str], size: int, width: int) -> tuple[str, list[str], str]:
    """Its configuration, the classes that it names, and why."""
    if not images:
        words = f"{width} columns: they are kept beside {size} features"
        return f"VectorEncoder.Config(size={size}, hidden=(128, 128), keep=True)", ["VectorEncoder"], words
    if not vectors and len(images) == 1:
        return f"ConvEncoder.Config(image={images[0]!r})", ["ConvEncoder"], "one image"
    words = f"{len(images)} images and {width} columns, an encoder for each"
    return f"MixedEncoder.Config(size={size + 32})", ["MixedEncoder"], words


def _why_model(report: Report, history: int) -> str:
    d = report.dynamics
    seen = report.visibility
    if delay := d.delay if seen is None else seen.delay:
        return f"an action shows {delay} rows later: the model sees {history} moments"
    if d.history and history > 1:
        return f"the observation is not the whole state, the rows before help: the model sees {history} moments"
    return "one observation tells the state: no history" if d.effects else "nothing speaks for a history"


def _plain(path: str) -> str:
    return path.replace("\\", "/").replace('"', "'")
