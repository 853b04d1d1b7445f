"""Measuring agents: frozen protocols, and acting in worlds beside the random policy on the same starts."""

from steersman.evaluation.acting import Acted, act_in

__all__ = ["Acted", "act_in"]
