"""What the Configs of views and masks offer: apart from those of other boxes, because needs hold them. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from steersman.core.looking import Masks, View
    from steersman.core.signature import Signature


@runtime_checkable
class ViewConfig(Protocol):
    """Configuration of a way of seeing a moment."""

    def build(self, signature: Signature) -> View: ...


@runtime_checkable
class MasksConfig(Protocol):
    """Configuration of a way of choosing context and targets."""

    def build(self) -> Masks: ...
