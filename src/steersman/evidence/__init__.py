"""The experiments behind every figure that we print: tables of cells, one file each, one command each.

`steersman evidence NAME` performs one. This catalogue is read without torch; an experiment is imported when asked for.

A new experiment is a module of this package with a line in `catalogue.EXPERIMENTS` and two functions:

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):    # what a cell depends on
        method: str
        steps: int = 2000

    def cells(seed: int) -> tuple[Cell, ...]:
        found = []
        for s in range(seed, seed + 3):
            log = Cell("log", record, 30, s)                                    # needed by others; measures nothing
            found += [Cell(f"pendulum/{m}", train, 240, s, Settings(m), (log,), usual=m == "vicreg") for m in METHODS]
        return tuple(found)

    def record(context: Context) -> Found:                                      # a function of the module, by its name
        ... write into context.folder ...
        return Found()

    def train(context: Context) -> Found:
        (log,) = context.needs                                                  # read log.folder, never change it
        ... context.seed, context.settings.method ...
        return Found({f"pendulum/{context.settings.method}": {"score": score}})

    def summary(results: Results) -> Outcome:
        figures, table = by_row(results, "pixels", "Pixels", (Column(key="score", title="score", better="higher"),))
        return Outcome(figures, (table,))

`seconds` are stated for two cores: at most 360 a cell, and 1,500 for all usual cells with what they need (a test adds
them up). A cell depends on its seed, its settings and what it needs, on nothing else: not on cells before it. What the
summary wants besides figures goes into `Found.record`, a frozen Struct, or into files of the folder. A summary shows
the cells that are there. Rows in figures are those that an issue names; "" is the row of a table that has only one.
Several cells may measure keys of one row: `Found({"pendulum": {"untrained": score}})`.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
