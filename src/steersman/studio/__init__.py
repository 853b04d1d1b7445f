"""Looking at runs: the self-contained HTML report. Reads run directories; computes nothing, never imports torch."""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
