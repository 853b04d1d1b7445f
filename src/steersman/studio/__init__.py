"""Looking at runs: the self-contained HTML report. Reads run directories; computes nothing, never imports torch."""

from __future__ import annotations

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, {"build": ".report", "report": ".report"})
