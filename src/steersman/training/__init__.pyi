from .ascending import AbstractionConfig as AbstractionConfig, Ascended as Ascended, ascend as ascend
from .ascending import open_hierarchy as open_hierarchy
from .advice import Advice as Advice, advise as advise
from .checkpoints import Checkpoint as Checkpoint, CheckpointStore as CheckpointStore
from .config import ParameterLevel as ParameterLevel, RolloutStage as RolloutStage, TrainConfig as TrainConfig
from .corrector import GradientCorrector as GradientCorrector
from .gauges import Gauge as Gauge, Moment as Moment, RidgeProbe as RidgeProbe
from .growing import grow as grow
from .ladder import LadderCorrector as LadderCorrector
from .loop import create_run as create_run, open_data as open_data, open_log as open_log, resume as resume
from .loop import stored_config as stored_config
from .loop import train as train
from .parts import held_out as held_out, settled as settled, split as split
from .making import Given as Given, Maker as Maker, Making as Making, imagine_windows as imagine_windows, makes as makes
from .reachable import reachable_cost as reachable_cost
from .rounds import ROUNDS as ROUNDS, grown_log as grown_log, latest as latest, successor as successor
from .session import Progress as Progress, Trained as Trained
from .staged import StagedLog as StagedLog
from .source import Sampler as Sampler, Streams as Streams, WindowSource as WindowSource
from .window_weights import WindowWeights as WindowWeights
