"""A planner with a way out in hand: nothing is begun that a known manoeuvre could not end safely."""

from steersman.actor.safety.backup.planner import Backup, Held, strongest
from steersman.actor.safety.backup.ways import Judge, Ways

__all__ = ["Backup", "Held", "Judge", "Ways", "strongest"]
