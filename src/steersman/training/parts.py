"""Which part of a log is learned from and which is not. Knows a dataset by its lengths and its ways of being cut."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from steersman.agent.config import require_react
from steersman.core.errors import ConfigError, DataError
from steersman.perception import CameraChoice, KeypointReadout, PatchEncoder
from steersman.training.config import TrainConfig
from steersman.world_model import TokenConvolution


def split(config: TrainConfig, dataset: Any) -> tuple[Any, Any]:
    """The part that is trained on, and the part that comes after it and is not: None if `held_out` is 0.

    None also where the log is so short that the later part would not hold a single window; all of it is learned from
    then.
    """
    if not config.held_out:
        return paced(dataset, config), None
    try:
        learned, later = (paced(part, config) for part in held_out(dataset, config.held_out, rows_of(config)))
    except DataError:
        return paced(dataset, config), None
    if min(int(part.lengths.max()) if len(part.lengths) else 0 for part in (learned, later)) < config.window:
        return paced(dataset, config), None
    return learned, later


def shown(config: TrainConfig, dataset: Any, share: float = 0.1) -> tuple[Any, Any, bool]:
    """What a report looks things up in, what it shows, and whether that was held out: as `split`. Where nothing was
    held out the last `share` of the log is shown all the same.

    Raises:
        DataError: a log too short to be cut in two.
    """
    learned, later = split(config, dataset)
    if later is not None:
        return learned, later, True
    first, last = held_out(dataset, share, 0)
    return paced(first, config), paced(last, config), False


def paced(dataset: Any, config: TrainConfig) -> Any:
    """The log in the steps of the model that `config` trains."""
    assert config.pace != "auto", "settle it first"
    return dataset if config.pace.plain else dataset.paced(config.pace)


def rows_of(config: TrainConfig) -> int:
    """Rows that a window of it stretches over."""
    assert config.pace != "auto", "settle it first"
    return config.pace.before + config.window * config.pace.step


def settled(config: TrainConfig, dataset: Any) -> TrainConfig:
    """The same with a pace that is said: the log's own where it is "auto"; and with the tiles of its pictures where the
    encoder of patches is to find them.

    Raises:
        ConfigError: an agent that decides anew at a part of a step that the pace does not have; patches to be found
            in pictures that are not made of tiles.
    """
    if config.pace == "auto":
        from steersman.data import pace_for

        config = replace(config, pace=pace_for(dataset))
    assert config.pace != "auto"
    require_react(config.agent.react, config.pace.step)
    return _tiled(config, dataset)


def _tiled(config: TrainConfig, dataset: Any) -> TrainConfig:
    """With the patch and the offset of an encoder that leaves them to the log, and the grid of what stands on it."""
    agent, camera = config.agent, isinstance(config.agent.perception, CameraChoice)
    picture: Any = agent.perception.picture if isinstance(agent.perception, CameraChoice) else agent.perception
    if not isinstance(picture, PatchEncoder.Config):
        return config
    if not picture.patch:
        from steersman.data import lattice_for

        found = lattice_for(dataset, picture.image)
        if found is None:
            raise ConfigError(
                "pictures that are drawn on a lattice of tiles, for an encoder of patches with patch=0",
                "a log whose pictures are not", "train without tiles, or say the patch and its offset")
        picture = replace(picture, patch=found.patch, offset=found.offset)
    seen: Any = agent.perception
    perception: Any = replace(seen, picture=picture) if camera else picture
    grid = picture.grid(dataset.signature.observations[dataset.signature.image(picture.image)].shape)
    model, readout = agent.world_model, agent.readout
    if isinstance(model, TokenConvolution.Config) and not model.grid:
        model = replace(model, grid=grid)
    if isinstance(readout, KeypointReadout.Config) and not readout.grid:
        readout = replace(readout, grid=grid)
    return replace(config, agent=replace(agent, perception=perception, world_model=model, readout=readout))


def held_out(dataset: Any, share: float, embargo: int) -> tuple[Any, Any]:
    """The first and the last part of a log in recorded order; the last `share` of its episodes, whole.

    Where that is less than one episode, an episode is cut, and `embargo` steps before the cut belong to neither part.
    An embargo that the schema states is kept wherever the parts meet.
    """
    schema = getattr(dataset, "schema", None)
    if schema is not None and schema.embargo:
        first, last = dataset.split(share, by="time", embargo=schema.embargo)
        return first, last
    count = len(dataset.lengths)
    later = round(share * count)
    if not later:
        first, last = dataset.split(share, by="time", embargo=embargo)
        return first, last
    order = dataset.lengths.new_tensor(range(count))
    return dataset.subset(order[: count - later]), dataset.subset(order[count - later :])
