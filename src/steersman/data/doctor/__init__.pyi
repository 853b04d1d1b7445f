from .examination import diagnose as diagnose, examine as examine
from .report import (
    ColumnFacts as ColumnFacts,
    Dynamics as Dynamics,
    Effect as Effect,
    Finding as Finding,
    Growth as Growth,
    Horizon as Horizon,
    ObservationFacts as ObservationFacts,
    Report as Report,
    Stride as Stride,
    Visibility as Visibility,
)
from .rows import lay_out as lay_out
