"""Split-conformal bounds: from errors on held-out labels to a margin whose promise is stated with a probability.

Knows nothing of models or guardrails. Shapes: n calibration labels, k scores of each; W windows, M scores, U units.
"""

from __future__ import annotations

import math

import torch
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


def grouped_quantile(scores: Tensor, unit: Tensor, level: float = 0.9) -> Tensor:
    """The least q that a score of a random window of a new unit does not exceed with probability >= `level`.

        q = quantile of Σ_u Σ_{i in u} δ(s_i) / ((U + 1) n_u) + δ(∞) / (U + 1) at `level`

    Units weigh the same, however many windows each has; the new unit's own share counts as infinite. Infinite if
    U < level / (1 - level). With one window a unit this is split conformal prediction.

    scores (W, M), unit (W,) any integers -> (M,).

    Source: hierarchical conformal prediction, Lee, Barber & Willett 2023, "Distribution-free inference with
    hierarchical data", theorem 1; Dunn, Wasserman & Ramdas 2022.

    >>> grouped_quantile(torch.arange(1.0, 100.0)[:, None], torch.arange(99))
    tensor([90.])
    """
    _, index, count = unit.unique(return_inverse=True, return_counts=True)
    weight = 1 / ((len(count) + 1) * count[index].double())
    values, order = scores.sort(0)
    mass = weight[order].cumsum(0)
    reached = mass >= level - 1e-9
    first = reached.to(torch.int8).argmax(0)
    q = values.gather(0, first[None])[0]
    return torch.where(reached.any(0), q, torch.full_like(q, math.inf))


def labels_needed(level: float) -> int:
    """Fewest calibration labels for which `conformal_quantile` is finite: k = ceil((n + 1) · level) <= n.

    >>> labels_needed(0.99)
    99
    """
    return math.ceil(round(level / (1 - level), 6))
