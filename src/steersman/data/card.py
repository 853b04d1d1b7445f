"""A dataset in one card, for the report: sizes, columns with their ranges, a few frames. Computed when trained on.

Knows the artefact's format (`runs.artefacts`); does not know how a card is drawn.
"""

from __future__ import annotations

import io

import msgspec
import torch

from steersman.data.dataset import Dataset
from steersman.data.statistics import Columns
from steersman.runs.artefacts import ColumnCard, DataCard

FRAMES = 10


def data_card(
    dataset: Dataset, *, source: str, title: str = "The log", **facts: str | float
) -> tuple[DataCard, dict[str, bytes]]:
    """The card of `dataset` and its image files: `artefacts.write(run, *data_card(…))`.

    source  where the log came from, for people
    facts   whatever else should be known
    """
    lengths = dataset.lengths.sort().values
    signature, statistics = dataset.signature, dataset.statistics()
    columns: list[ColumnCard] = []
    for key, spec in signature.observations.items():
        if spec.kind == "vector":
            labels = spec.columns or tuple(f"{key} {i}" for i in range(spec.shape[0]))
            columns += _cards(labels, "observation", statistics.observations[key])
        elif spec.kind in ("field", "waveform"):
            channels = spec.channels or tuple(f"channel {i}" for i in range(spec.shape[-1]))
            columns += _cards(tuple(f"{key} {x}" for x in channels), "observation", statistics.observations[key])
    action = signature.action
    columns += _cards(action.names or tuple(f"action {i}" for i in range(action.size)), "action", statistics.action)
    if statistics.exogenous is not None:
        columns += _cards(signature.exogenous, "exogenous", statistics.exogenous)
    units = dataset.schema.units() if dataset.schema is not None else {}
    columns = [msgspec.structs.replace(column, unit=units.get(column.name, "")) for column in columns]
    known: dict[str, str | float | int | bool | None] = {
        f"observation {key}": f"{spec.kind} {'×'.join(map(str, spec.shape))}"
        for key, spec in signature.observations.items()
    }
    known |= {
        f"tokens {key}": f"{counts.total:,}, {len(counts.tokens):,} of {counts.vocabulary:,} used, "
                         f"{counts.entropy:.2f} bits each by frequency" for key, counts in statistics.tokens.items()
    }
    known |= {} if dataset.acted else {"action": "none: nobody acts"}
    known |= facts
    known |= {f"note {i + 1}": note for i, note in enumerate(dataset.notes)}
    shown = [k for k, s in signature.observations.items() if s.kind == "image" or len(s.grid) == 2]
    image = min(shown, key=lambda k: signature.observations[k].kind != "image", default=None)
    file = "log.png"
    card = DataCard(
        name="log", title=title, source=source, fingerprint=dataset.fingerprint, episodes=len(dataset),
        steps=dataset.steps, lengths=(int(lengths[0]), int(lengths[len(lengths) // 2]), int(lengths[-1])),
        size_bytes=sum(f.size for f in dataset.index.fields.values()), columns=tuple(columns[:64]), facts=known,
        samples=file if image else "", samples_alt="frames from different episodes, side by side" if image else "",
    )
    return card, {file: _frames(dataset, image)} if image else {}


def _cards(labels: tuple[str, ...], role: str, columns: Columns) -> list[ColumnCard]:
    return [
        ColumnCard(name=label, role=role, mean=mean, std=std, low=low, high=high)  # type: ignore[arg-type]
        for label, mean, std, low, high in zip(
            labels, columns.mean, columns.std, columns.low, columns.high, strict=True)
    ]


def _frames(dataset: Dataset, name: str) -> bytes:
    """Frames from the middle of a few episodes, in one row; of a field its first channel, from black to white."""
    from PIL import Image

    count = min(FRAMES, len(dataset))
    episode = torch.linspace(0, len(dataset) - 1, count).long()
    frames = dataset.frames(episode, dataset.lengths[episode] // 2)[name]
    if frames.is_floating_point():
        frames = frames[..., :1]
        low, high = frames.min(), frames.max()
        frames = ((frames - low) / (high - low).clamp(min=1e-30) * 255).to(torch.uint8)
    row = torch.cat(list(frames), 1)
    pixels = row.expand(-1, -1, 3) if row.shape[-1] == 1 else row[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
