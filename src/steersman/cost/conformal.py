"""Split-conformal bounds: from errors on held-out labels to a margin whose promise is stated with a probability.

Knows nothing of models or guardrails. Shapes: n calibration labels, k scores of each.
"""

from __future__ import annotations

import math

from torch import Tensor

from steersman.core import PlanningError


def conformal_quantile(scores: Tensor, level: float = 0.99) -> float:
    """The least q that a new score, exchangeable with these, does not exceed with probability >= `level`.

    q = the r-th smallest of the n scores, r = ceil((n + 1) · level); infinite if r > n, since n scores then cannot
    promise so much. Without ties the coverage over draws of the scores lies in [level, level + 1/(n + 1)].

    scores (n,) are errors on labels that took no part in fitting; the unit of q is theirs. Or (n, k): k scores of
    each label, for instance its error in k directions; then r = ceil((n + 1) · k · level) of all n · k, and the
    promise is for one of a new label's k scores, drawn at random. (The new label's k scores count as infinite.)

    >>> import torch
    >>> conformal_quantile(torch.arange(1.0, 100.0), 0.9)
    90.0
    >>> conformal_quantile(torch.arange(1.0, 99.0), 0.99)
    inf

    Source: Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world"; Angelopoulos & Bates 2023, "A
    gentle introduction to conformal prediction", theorem 1. The promise is for one new score of the same
    distribution; states chosen by a planner are not exchangeable with a log, so it is measured, not proved, there.

    Raises:
        PlanningError: no scores, NaN among them, or a level outside (0, 1).
    """
    if scores.ndim not in (1, 2) or scores.numel() == 0 or bool(scores.isnan().any()):
        raise PlanningError(
            "calibration scores (n,) or (n, k), n >= 1, none of them NaN", f"{tuple(scores.shape)}, perhaps NaN",
            "calibrate on held-out labels",
        )
    if not 0 < level < 1:
        raise PlanningError("a level between 0 and 1", f"{level}", "0.99 is a good start")
    each = scores[0].numel()
    rank = math.ceil(round((len(scores) + 1) * each * level, 6))  # 0.57 · 100 is 56.999…: whole ranks stay whole
    return float(scores.flatten().sort().values[rank - 1]) if rank <= scores.numel() else math.inf


def labels_needed(level: float) -> int:
    """Fewest calibration labels for which `conformal_quantile` is finite: k = ceil((n + 1) · level) <= n.

    >>> labels_needed(0.99)
    99
    """
    return math.ceil(round(level / (1 - level), 6))
