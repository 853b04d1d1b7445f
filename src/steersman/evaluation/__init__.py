"""Measuring agents: frozen protocols, and acting in worlds beside the random policy on the same starts."""

from steersman.evaluation.acting import Acted, act_in
from steersman.evaluation.alarms import calibrate_alarm
from steersman.evaluation.deciding import Decides, FunctionPolicy, PolicyFunction
from steersman.evaluation.deliberating import calibrate_gate
from steersman.evaluation.foresight import Foresight, encode_films, fit_levels, foresight
from steersman.evaluation.futures import Shares, best_of, rank_histogram, shares, unevenness
from steersman.evaluation.guarding import ClearGuard, Guard, fit_clear_guard, fit_guard
from steersman.evaluation.intervals import wilson, zero_of
from steersman.evaluation.known import fit_agreement, fit_logged
from steersman.evaluation.margins import lived_errors, margins_kept, measure_margins
from steersman.evaluation.offline import measure
from steersman.evaluation.protocol import Evaluation, PlanningProtocol, Seen, evaluate
from steersman.evaluation.protocols import PROTOCOLS, fitting, protocol
from steersman.evaluation.seen import show_columns, show_seen
from steersman.evaluation.success import Tally, drifted

__all__ = [
    "PROTOCOLS", "Acted", "ClearGuard", "Decides", "Evaluation", "Foresight", "FunctionPolicy", "Guard",
    "PlanningProtocol", "PolicyFunction", "Seen", "Shares", "Tally", "act_in", "best_of", "calibrate_alarm",
    "calibrate_gate", "drifted", "encode_films", "evaluate", "fit_agreement", "fit_clear_guard", "fit_guard",
    "fit_levels", "fit_logged", "fitting", "foresight", "lived_errors", "margins_kept", "measure", "measure_margins",
    "protocol", "rank_histogram", "shares", "show_columns", "show_seen", "unevenness", "wilson", "zero_of",
]
