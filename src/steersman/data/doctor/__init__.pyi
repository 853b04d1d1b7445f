from .examination import diagnose as diagnose, examine as examine
from .report import (
    ColumnFacts as ColumnFacts,
    Dynamics as Dynamics,
    Effect as Effect,
    Finding as Finding,
    Horizon as Horizon,
    ObservationFacts as ObservationFacts,
    Report as Report,
)
from .rows import lay_out as lay_out
