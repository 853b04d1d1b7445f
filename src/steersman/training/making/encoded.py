"""Every moment of a window, encoded at once, for the task that was drawn for the window."""

from __future__ import annotations

from steersman.core.learning import Attending, Encoded, Seen
from steersman.core.task import ColumnGoal, Task, TaskSettings
from steersman.training.making.maker import Maker, Making, makes


@makes(Encoded)
class MakeEncoded(Maker[Encoded, Seen]):
    """One call of perception for all B·(L+1) moments."""

    def make(self, need: Encoded, making: Making) -> Seen:
        window, task = making.window, None
        if names := making.perception.tasks:
            drawn = making.shared(Attending()).tolist()
            attend = tuple(("", *names)[i] for i in drawn)
            task = Task(ColumnGoal({}), settings=TaskSettings(attend=attend))
        latent = making.perception.encode(window.observations, task)
        return Seen(latent, making.perception.measured(window.measured) if window.measured else None)
