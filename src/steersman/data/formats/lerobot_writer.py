"""Recordings -> LeRobot's layout, version 3. What a killed writer leaves can be saved (`LeRobot.salvage`): tables in
pieces, fragmented videos, and a journal of where each episode is.

Shapes: R rows (one more than steps) of an episode.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steersman.core.errors import UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.formats.arrays import describe
from steersman.data.formats.parquet_pieces import PiecesWriter
from steersman.data.formats.video import VideoWriter
from steersman.data.schema import Schema
from steersman.data.storage import JOURNAL

DESCRIPTION = "steersman.json"
FPS = 10.0
"""Frames a second of a log that does not say when its rows were recorded."""
_DATA_BYTES, _VIDEO_BYTES, _CHUNK = 100 << 20, 200 << 20, 1000
_VERSION = "v3.0"


class DatasetWriter:
    """The files of a dataset in the making: append every episode, close, finish.

    Raises:
        UsageError: rows that are not equally spaced in time: LeRobot has one rate for a dataset.
    """

    def __init__(self, folder: Path, signature: Signature, schema: Schema | None) -> None:
        self.folder, self.signature, self.schema = folder, signature, schema
        self.fps = FPS
        self.timed = False
        self.rows = self.episodes = 0
        self.table: PiecesWriter | None = None
        self.table_file = -1
        self.videos: dict[str, VideoWriter] = {}
        self.video_files: dict[str, int] = {}
        self.listed: list[dict[str, Any]] = []
        self.moments: dict[str, _Moments] = {}

    def append(self, number: int, recording: Recording) -> None:
        if not number:
            self.timed = recording.times is not None
            self.fps = _rate(recording, number, None)
        else:
            _rate(recording, number, self.fps)
        rows = len(recording) + 1
        entry: dict[str, Any] = {
            "episode_index": number, "tasks": ["log"], "length": rows, "dataset_from_index": self.rows,
            "dataset_to_index": self.rows + rows, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
        }
        for name, spec in self.signature.observations.items():
            if spec.kind == "image":
                entry |= self._film(f"observation.images.{name}", recording.observations[name])
        entry["data/chunk_index"], entry["data/file_index"] = divmod(self._tabulate(number, recording), _CHUNK)
        self.listed.append(entry)
        if not number:
            self._describe(0, 0)  # what `LeRobot.salvage` needs, should this be all
        with (self.folder / "meta" / JOURNAL).open("ab") as journal:
            journal.write(msgspec.json.encode(entry) + b"\n")
        self.rows, self.episodes = self.rows + rows, number + 1

    def _film(self, key: str, frames: Array) -> dict[str, Any]:
        """Append to the feature's video, or begin another where it has grown large; where the episode is."""
        if "/" in key or ".." in key:
            raise UsageError("names of images that can be names of folders", repr(key), "rename the observation")
        writer = self.videos.get(key)
        if writer is None or writer.size() > _VIDEO_BYTES:
            if writer is not None:
                writer.close()
            number = self.video_files[key] = self.video_files.get(key, -1) + 1
            file = self.folder / "videos" / key / f"chunk-{number // _CHUNK:03d}" / f"file-{number % _CHUNK:03d}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            writer = self.videos[key] = VideoWriter(file, frames.shape[1:], self.fps)
        start = writer.frames
        writer.append(frames)
        self._moments(key).add(frames[:: max(1, len(frames) // 4)].reshape(-1, frames.shape[-1]) / 255.0)
        chunk, file_index = divmod(self.video_files[key], _CHUNK)
        return {
            f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file_index,
            f"videos/{key}/from_timestamp": start / self.fps, f"videos/{key}/to_timestamp": writer.frames / self.fps,
        }

    def _tabulate(self, number: int, recording: Recording) -> int:
        """Append rows; the number of the file that they are in."""
        rows = len(recording) + 1
        columns: dict[str, pa.Array] = {}
        for name, spec in self.signature.observations.items():
            if spec.kind == "vector":
                columns[f"observation.{name}"] = _lists(recording.observations[name])
                self._moments(f"observation.{name}").add(recording.observations[name])
        columns["action"] = _lists(np.concatenate([recording.actions, recording.actions[-1:]]))
        self._moments("action").add(recording.actions)
        if recording.exogenous is not None:
            columns["exogenous"] = _lists(np.concatenate([recording.exogenous, recording.exogenous[-1:]]))
            self._moments("exogenous").add(recording.exogenous)
        if recording.times is not None:
            columns["time"] = pa.array(recording.times)
        columns |= {f"measured.{name}": pa.array(fresh.astype(np.uint8)) for name, fresh in recording.measured.items()}
        columns |= {
            "timestamp": pa.array((np.arange(rows) / self.fps).astype(np.float32)),
            "frame_index": pa.array(np.arange(rows)), "episode_index": pa.array(np.full(rows, number)),
            "index": pa.array(np.arange(rows) + self.rows),
            "task_index": pa.array(np.zeros(rows, np.int64)),
        }
        table = pa.table(columns)
        if self.table is None or self.table.size() > _DATA_BYTES:
            if self.table is not None:
                self.table.close()
            self.table_file += 1
            file = self.folder / "data" / f"chunk-{self.table_file // _CHUNK:03d}"
            file.mkdir(parents=True, exist_ok=True)
            self.table = PiecesWriter(file / f"file-{self.table_file % _CHUNK:03d}.parquet", table.schema)
        self.table.write(table)
        return self.table_file

    def _moments(self, key: str) -> _Moments:
        return self.moments.setdefault(key, _Moments())

    def close(self) -> None:
        for video in self.videos.values():
            video.close()
        if self.table is not None:
            self.table.close()

    def finish(self) -> None:
        """The files under `meta/`."""
        meta = self.folder / "meta"
        list_episodes(self.folder, self.listed)
        (self.folder / "meta" / JOURNAL).unlink()
        index = {"index_columns": ["task"], "column_indexes": [], "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
             "metadata": None},
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ], "creator": {"library": "pyarrow", "version": pa.__version__}, "pandas_version": "2.0.0"}
        tasks = pa.table({"task_index": pa.array([0]), "task": pa.array(["log"])})
        pq.write_table(tasks.replace_schema_metadata({"pandas": json.dumps(index)}), meta / "tasks.parquet")
        (meta / "stats.json").write_text(json.dumps({key: m.json() for key, m in self.moments.items()}, indent=1))
        self._describe(self.episodes, self.rows)

    def _describe(self, episodes: int, rows: int) -> None:
        meta = self.folder / "meta"
        meta.mkdir(exist_ok=True)
        (meta / "info.json").write_text(json.dumps(self._info(episodes, rows), indent=1))
        (meta / DESCRIPTION).write_bytes(describe(self.signature, self.timed, self.schema))

    def _info(self, episodes: int, rows: int) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for name, spec in self.signature.observations.items():
            if spec.kind == "vector":
                features[f"observation.{name}"] = _feature("float32", spec.shape[0], spec.columns)
                continue
            key = f"observation.images.{name}"
            height, width, channels = spec.shape
            features[key] = {
                "dtype": "video", "shape": list(spec.shape), "names": ["height", "width", "channels"], "info": {
                    "video.height": height, "video.width": width, "video.codec": self.videos[key].codec,
                    "video.pix_fmt": self.videos[key].pixels, "video.is_depth_map": False, "video.fps": self.fps,
                    "video.channels": channels, "has_audio": False,
                },
            }
        action = self.signature.action
        dtype = "int64" if action.kind == "discrete" else "float32"
        features["action"] = _feature(dtype, action.size, action.names)
        if self.signature.exogenous:
            features["exogenous"] = _feature("float32", len(self.signature.exogenous), self.signature.exogenous)
        if self.timed:
            features["time"] = _feature("float64", 1, ())
        features |= {f"measured.{name}": _feature("uint8", 1, ()) for name in self.signature.slow}
        features["timestamp"] = _feature("float32", 1, ())
        for name in ("frame_index", "episode_index", "index", "task_index"):
            features[name] = _feature("int64", 1, ())
        videos = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if self.videos else None
        return {
            "codebase_version": _VERSION, "robot_type": None, "total_episodes": episodes,
            "total_frames": rows, "total_tasks": 1, "chunks_size": _CHUNK, "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200, "fps": int(self.fps) if self.fps == int(self.fps) else self.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": videos, "features": features,
        }


def list_episodes(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Write `meta/episodes`: where each episode is."""
    place = folder / "meta" / "episodes" / "chunk-000"
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(entries), place / "file-000.parquet")


class _Moments:
    """Count, mean, spread and range of the columns of a feature, as `stats.json` holds them."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.squares = self.low = self.high = np.zeros(0)

    def add(self, rows: Array) -> None:
        x = rows.astype(np.float64)
        parts = (x.sum(0), (x * x).sum(0), x.min(0), x.max(0))
        if not self.count:
            self.sum, self.squares, self.low, self.high = parts
        else:
            self.sum, self.squares = self.sum + parts[0], self.squares + parts[1]
            self.low, self.high = np.minimum(self.low, parts[2]), np.maximum(self.high, parts[3])
        self.count += len(x)

    def json(self) -> dict[str, list[float]]:
        mean = self.sum / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean * mean, 0.0))
        named = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {**{name: value.tolist() for name, value in named.items()}, "count": [self.count]}


def _feature(dtype: str, size: int, names: tuple[str, ...]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [size], "names": list(names) if names else None}


def _lists(values: Array) -> pa.Array:
    """(R, C) -> a column of lists, or of numbers where C is 1, as LeRobot keeps them."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _rate(recording: Recording, number: int, wanted: float | None) -> float:
    """Frames a second of an episode whose rows are equally spaced."""
    if recording.times is None:
        return wanted or FPS
    gaps = np.diff(recording.times)
    fps = 1.0 / float(np.median(gaps)) if wanted is None else wanted
    fps = float(round(fps)) if abs(fps - round(fps)) < 0.01 * fps and round(fps) else fps
    if (np.abs(gaps * fps - 1.0) > 0.01).any():
        raise UsageError(
            f"rows at {fps:.4g} a second in episode {number} for LeRobot, which has one rate for a dataset",
            f"gaps of {gaps.min():.4g} to {gaps.max():.4g} s", f"resample them (--period {1 / fps:.4g})",
        )
    return fps
