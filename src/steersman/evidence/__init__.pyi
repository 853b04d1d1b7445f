from .catalogue import EXPERIMENTS as EXPERIMENTS, experiment as experiment
from .context import Context as Context, Outcome as Outcome, Result as Result, perform as perform
