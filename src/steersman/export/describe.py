"""The README of an ONNX folder: what each file takes and gives, how a plan is rolled out. Computes nothing."""

from __future__ import annotations

from steersman.export.manifest import OnnxManifest

_WHAT = {
    "encode": "observation → latent state",
    "survey": "observation → map of the scene; needed once per decision",
    "step": "one imagined step of every candidate of every problem",
    "correct": "what was foreseen and what was measured → what is believed; once per moment that is observed",
    "readout": "latent state → named columns",
    "policy": "observation → action, without search",
    "critic": "latent state → what it costs from here on",
}

_LOOP = """\
## Rolling a plan out

```python
import numpy as np
import onnxruntime

encode, step = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("encode", "step"))
(state,) = encode.run(None, observation)                  # name -> (batch, …); batch 1 for one problem
state = np.repeat(state[:, None], candidates, 1)          # (batch, candidates, …)
for t in range(horizon):
    state = step.run(["next"], {"state": state, "action": actions[:, :, t]})[0]
    # score `state` here: distance to an encoded goal, or columns of readout.onnx
```

Inputs of `step` that are named `…` with an output `…_next` are carried from step to step, and are zeros where an
episode begins. After each moment that is measured, what was measured takes the place of what `step` foresaw, or, where
there is a `correct.onnx`, what that makes of the two. In Python, `steersman.export.load_onnx(FOLDER)` gives an agent
that plans on these files.
"""


def describe(manifest: OnnxManifest) -> str:
    """The text."""
    lines = ["# ONNX export of a steersman agent", ""]
    for name, graph in manifest.graphs.items():
        what = _WHAT.get(name.partition("_")[0], name)
        lines += [f"## {name}.onnx", "", f"{what}. Largest difference from torch, relative to 1 + the "
                  f"value: {graph.worst:.1e}.", "", "| | name | type | shape |", "|---|---|---|---|"]
        for side, ports in (("in", graph.inputs), ("out", graph.outputs)):
            lines += [f"| {side} | `{port.name}` | {port.type} | {', '.join(map(str, port.shape))} |" for port in ports]
        columns = manifest.columns if name == "readout" else graph.columns
        if columns:
            lines += ["", f"{'Columns' if name == 'readout' else 'Targets'}, in order: {', '.join(columns)}."]
        lines.append("")
    if manifest.left_out:
        lines += ["## Left out", "", *(f"- {name}: {why}." for name, why in manifest.left_out.items()), ""]
    return "\n".join(lines) + "\n" + _LOOP
