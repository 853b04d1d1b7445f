"""A folder of mp4 files and a CSV table: what a camera beside a logger leaves.

  log.csv + CAMERA.mp4              one table; frame i of each video belongs to row i
  log.csv + CAMERA/NAME.mp4         one table; a video per episode, in the order of their names
  NAME.csv + NAME.mp4, several      a table and a video per episode

Written as the second, with a description beside it. Frames are counted; their times are not looked at. Gaps in the
table's times end episodes. In a schema, a camera is a column with the name of its file or folder (`image`, where there
is a table an episode).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.formats.arrays import Description, describe
from steersman.data.formats.csv import Csv
from steersman.data.formats.layouts import natural
from steersman.data.formats.recorded import images_apart, with_images
from steersman.data.formats.table import Table, interpret
from steersman.data.formats.video import VideoReader, VideoWriter
from steersman.data.schema import Column, Schema
from steersman.data.source import Draft, Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256
from steersman.runs.folders import new_folder

TABLE, DESCRIPTION = "log.csv", "steersman.json"
_FPS = 10.0


class Folder(Format):
    """A folder of mp4 and CSV: a table and a video per camera or per episode. Video is lossy."""

    name = "folder"
    lossy = "images are kept as H.264 video, which is lossy"
    kinds = ("vector", "image")

    def matches(self, path: str) -> bool:
        root = Path(path)
        try:
            return root.is_dir() and any(root.glob("*.csv")) and bool(_videos(root))
        except OSError:
            return False

    def asks(self, path: str) -> bool:
        return False

    def open(self, path: str, options: ReadOptions) -> Source:
        root, content = Path(path), sha256(path)
        tables = sorted(root.glob("*.csv"), key=lambda p: natural(p.name))
        described, renamed = _description(root, options), None
        said = content if options.schema is None else f"{content}{options.schema.toml()}"
        if options.schema is not None:
            names = _camera_names(root, tables)
            schema, renamed = images_apart(options.schema, {name: name for name in names}, path)
            options = msgspec.structs.replace(options, schema=schema)
        elif options.sort:
            raise UsageError(f"rows in their order in {path}", "sort", "leave it out: frames would not follow")
        if len(tables) == 1:
            table, _ = Csv().interpreted(str(tables[0]), options, filmed=True)
        else:
            table = _joined(tables, options, path)
        cameras = _cameras(root, table, tables)
        if renamed is not None:
            cameras = {new: cameras[old] for old, new in renamed.items()}
        specs = {name: _spec(files, described, name) for name, files in cameras.items()}
        signature = with_images(table.signature, specs, path)
        if described is not None:
            described.signature.require(signature, f"the description of {path}", "its files")
            signature = described.signature

        def stream() -> Iterator[Recording]:
            return _recordings(table, cameras, signature)

        return Source(
            self.name, path, signature, fingerprint(self.name, said, options), stream, table.steps,
            table.notes, _with_cameras(table.schema, renamed, specs),
        )

    def put(self, path: Path, draft: Draft) -> None:
        signature = draft.signature
        images = [name for name, spec in signature.observations.items() if spec.kind == "image"]
        if not images:
            raise UsageError("images for a folder of videos", "vectors only", "write .csv instead")
        vectors = {name: spec for name, spec in signature.observations.items() if spec.kind == "vector"}
        timed = False

        with new_folder(path, "a log") as folder:

            def filmed() -> Iterator[Recording]:
                nonlocal timed
                for number, recording in draft.checked():
                    timed = recording.times is not None
                    for name in images:
                        _film(folder / name / f"episode_{number:06d}.mp4", recording, name)
                    kept = {name: recording.observations[name] for name in vectors}
                    yield replace(recording, observations=kept)

            describe(signature, False)  # refuses names that are no part of a path
            numbers = msgspec.structs.replace(signature, observations=vectors)
            Csv().put(folder / TABLE, Draft(numbers, filmed(), draft.schema))
            (folder / DESCRIPTION).write_bytes(describe(signature, timed))


def _with_cameras(schema: Schema, renamed: Mapping[str, str] | None, specs: Mapping[str, ObservationSpec]) -> Schema:
    """The table's schema, and a line for each camera, under the name of its files."""
    files = {new: old for old, new in (renamed or {name: name for name in specs}).items()}
    columns = {
        file: Column(role="observation", observation=name, shape=specs[name].shape) for name, file in files.items()
    }
    return msgspec.structs.replace(schema, columns=schema.columns | columns)


def _film(path: Path, recording: Recording, name: str) -> None:
    path.parent.mkdir(exist_ok=True)
    frames, times = recording.observations[name], recording.times
    fps = _FPS if times is None else float(np.clip(1 / np.median(np.diff(times)), 0.01, 10_000.0))
    with closing(VideoWriter(path, frames.shape[1:], fps)) as writer:
        writer.append(frames)


def _description(root: Path, options: ReadOptions) -> Description | None:
    file = root / DESCRIPTION
    if options.stated() or not file.is_file():
        return None
    try:
        return Description.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError(f"a readable description {file}", f"{error.strerror}", "check the file") from error


def _videos(root: Path) -> list[Path]:
    return [p for pattern in ("*.mp4", "*/*.mp4") for p in root.glob(pattern)]


def _joined(tables: list[Path], options: ReadOptions, path: str) -> Table:
    """Tables that are an episode each, as one."""
    parts = []
    for number, file in enumerate(tables):
        data = Csv().table(str(file), None)
        column = pa.array(np.full(data.num_rows, number))
        names = [n for n in data.column_names if n != "episode"]
        parts.append(data.select(names).append_column("episode", column))
    try:
        data = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"the same columns in every table of {path}", f"{error}".splitlines()[0], "export them alike"
        ) from error
    said = options.schema
    if said is not None and said.episode is None:
        said = msgspec.structs.replace(said, columns={"episode": Column(role="episode")} | said.columns)
    return interpret(data, msgspec.structs.replace(options, schema=said), path, filmed=True)


def _camera_names(root: Path, tables: list[Path]) -> list[str]:
    if len(tables) > 1:
        return ["image"]
    return sorted({p.stem if p.parent == root else p.parent.name for p in _videos(root)})


def _cameras(root: Path, table: Table, tables: list[Path]) -> dict[str, list[Path]]:
    """Camera -> its videos: one for all rows, or one per episode."""
    whole, episodes = sorted(root.glob("*.mp4")), len(table.recorded)
    if len(tables) > 1:
        videos = [file.with_suffix(".mp4") for file in tables]
        missing = [file.name for file in videos if not file.is_file()]
        if missing:
            raise DataError(f"a video beside each table of {root}", f"no {missing[0]}", "give both the same name")
        return {"image": videos}
    cameras = {file.stem: [file] for file in whole}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        files = sorted(folder.glob("*.mp4"), key=lambda p: natural(p.name))
        if files and len(files) != episodes:
            raise DataError(f"{episodes} videos in {folder}, one an episode", f"{len(files)}", "add or remove videos")
        if files:
            cameras[folder.name] = files
    return cameras


def _spec(files: list[Path], described: Description | None, name: str) -> ObservationSpec:
    with closing(VideoReader(files[0], counted=True)) as reader:
        height, width, channels = reader.shape
    known = described.signature.observations.get(name) if described is not None else None
    if known is not None and known.kind == "image":
        channels = known.shape[2]
    return ObservationSpec("image", (height, width, channels))


def _recordings(table: Table, cameras: dict[str, list[Path]], signature: Signature) -> Iterator[Recording]:
    readers: dict[str, VideoReader] = {}
    try:
        number = 0
        for recording, (start, stop) in zip(table.recordings(), table.bounds, strict=True):
            observed: dict[str, Array] = dict(recording.observations)
            while start >= table.recorded[number][1]:
                number += 1
            for name, files in cameras.items():
                single = len(files) == 1 and len(table.recorded) > 1
                path = files[0 if single else number]
                if name not in readers or readers[name].path != path:
                    if name in readers:
                        readers.pop(name).close()
                    readers[name] = VideoReader(path, counted=True)
                frames = readers[name].frames(start - (0 if single else table.recorded[number][0]), stop - start)
                observed[name] = frames[..., : signature.observations[name].shape[2]]
            yield replace(recording, observations=observed)
    finally:
        for reader in readers.values():
            reader.close()
