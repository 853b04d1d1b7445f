"""Thin commands: each parses words, calls the library, and shows what came back. No algorithm lives here.

`steersman --help` reads this package's catalogue only; a command's module is imported when it is asked for, and
torch only when the command needs it.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
