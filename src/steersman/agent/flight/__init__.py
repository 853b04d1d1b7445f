"""The flight recorder: what an agent decided, from what, and why, so that it can be explained and decided again."""

from steersman.agent.flight.recorder import Recorder

__all__ = ["Recorder"]
