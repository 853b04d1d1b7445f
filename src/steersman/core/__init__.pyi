from .boxes import (
    Configurator as Configurator,
    Cost as Cost,
    Critic as Critic,
    FittedCost as FittedCost,
    FittedPolicy as FittedPolicy,
    Memory as Memory,
    Objective as Objective,
    Perception as Perception,
    Policy as Policy,
    Readout as Readout,
)
from .checks import (
    check_cost as check_cost,
    check_guardrail as check_guardrail,
    check_memory as check_memory,
    check_planner as check_planner,
    check_world_model as check_world_model,
)
from .closed_forms import Distance as Distance, Perceptron as Perceptron
from .corrector import Corrector as Corrector, Update as Update
from .errors import (
    ActionError as ActionError,
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    DataError as DataError,
    DivergedError as DivergedError,
    LockedError as LockedError,
    MismatchError as MismatchError,
    PartError as PartError,
    PlanningError as PlanningError,
    PromiseError as PromiseError,
    RunError as RunError,
    SealError as SealError,
    SteersmanError as SteersmanError,
    StorageError as StorageError,
    UsageError as UsageError,
)
from .growing import Change as Change
from .guardrail import Guardrail as Guardrail
from .latent_graph import LatentGraph as LatentGraph
from .latent_variable import (
    Energy as Energy,
    LatentVariable as LatentVariable,
    Posterior as Posterior,
    Support as Support,
)
from .learning import (
    Acted as Acted,
    Average as Average,
    Carried as Carried,
    Encoded as Encoded,
    Drawn as Drawn,
    Explained as Explained,
    Followed as Followed,
    Glimpse as Glimpse,
    Hides as Hides,
    LearningBatch as LearningBatch,
    Looks as Looks,
    Loss as Loss,
    Need as Need,
    Rolled as Rolled,
    Rollouts as Rollouts,
    Seen as Seen,
    Taught as Taught,
    Teacher as Teacher,
    Viewed as Viewed,
    Views as Views,
    Visible as Visible,
)
from .levels import Level as Level
from .looking import Looked as Looked, Masked as Masked, Masks as Masks, View as View
from .optimiser import Optimiser as Optimiser
from .parts import (
    ConfiguratorConfig as ConfiguratorConfig,
    CorrectorConfig as CorrectorConfig,
    CostConfig as CostConfig,
    CriticConfig as CriticConfig,
    FittedCostConfig as FittedCostConfig,
    FittedPolicyConfig as FittedPolicyConfig,
    GuardrailConfig as GuardrailConfig,
    LatentVariableConfig as LatentVariableConfig,
    MemoryConfig as MemoryConfig,
    ObjectiveConfig as ObjectiveConfig,
    OptimiserConfig as OptimiserConfig,
    PerceptionConfig as PerceptionConfig,
    PlannerConfig as PlannerConfig,
    PolicyConfig as PolicyConfig,
    ReadoutConfig as ReadoutConfig,
    WorldModelConfig as WorldModelConfig,
    register as register,
    registered as registered,
)
from .planner import Planner as Planner
from .problem import Plan as Plan, Problem as Problem
from .random import Streams as Streams
from .records import TensorRecord as TensorRecord
from .recording import Recording as Recording
from .signature import (
    ActionSpec as ActionSpec, ObservationSpec as ObservationSpec, Pace as Pace, Signature as Signature,
)
from .task import (
    Budget as Budget,
    CallableGoal as CallableGoal,
    ColumnGoal as ColumnGoal,
    Goal as Goal,
    LatentGoal as LatentGoal,
    ObservationGoal as ObservationGoal,
    Risk as Risk,
    SubTask as SubTask,
    Task as Task,
    TaskSettings as TaskSettings,
)
from .types import (
    Belief as Belief,
    Episode as Episode,
    Filtered as Filtered,
    Imagined as Imagined,
    Latent as Latent,
    Observation as Observation,
    Surprise as Surprise,
    Window as Window,
)
from .way_graph import WayConfig as WayConfig, WayGraph as WayGraph
from .world_model import WorldModel as WorldModel
from .world_model import every_moment as every_moment
from .view_configs import MasksConfig as MasksConfig, ViewConfig as ViewConfig
