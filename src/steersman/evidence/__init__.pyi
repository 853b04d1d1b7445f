from .catalogue import EXPERIMENTS as EXPERIMENTS, experiment as experiment
from .cell import (
    Cell as Cell, Context as Context, Experiment as Experiment, Finished as Finished, Found as Found,
    Outcome as Outcome, Results as Results,
)
from .performing import Entry as Entry, Order as Order, Result as Result, perform as perform, survey as survey
from .seeds import by_row as by_row, over_seeds as over_seeds
