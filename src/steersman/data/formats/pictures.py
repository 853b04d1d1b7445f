"""Pictures: a file, or a folder of them (in folders of their classes, if there are any), each an episode of one moment.

Formats of files are those of Pillow's PNG, JPEG, WebP, BMP and TIFF plugins. Written as PNG, which loses nothing.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats import kinds
from steersman.data.formats.unsound import reading
from steersman.data.formats.video import LARGEST
from steersman.data.source import Draft, Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256

_PLUGINS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
"""Modes of 16 bits, of which the upper 8 are kept."""
_TOO_DEEP = ("I", "F")
_ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""
_RENDERED = {"P": "with a palette, read as colours", "PA": "with a palette, read as colours",
             "CMYK": "in CMYK, read as RGB", "YCbCr": "in YCbCr, read as RGB", "1": "in black and white, read as grey"}


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded: its size as it is seen, Pillow's mode, how many frames."""

    height: int
    width: int
    mode: str
    frames: int


class Pictures(Format):
    """A folder of png, jpg, webp, bmp or tif: an episode of one moment each; folders are classes. Written as png."""

    name = "pictures"

    def matches(self, path: str) -> bool:
        return kinds.looks_like(path, self.name)

    def asks(self, path: str) -> bool:
        return False

    def losses(self, signature: Signature) -> tuple[str, ...]:
        return ("a folder of pictures keeps no times",)

    def open(self, path: str, options: ReadOptions) -> Source:
        options.only({"resize"}, self.name)
        notes: list[str] = []
        files = kinds.files_of(path, self.name, options, notes)
        said = kinds.description(path, "image")
        headers = kinds.headers(files, header)
        _sizes(files, headers, options, notes)
        height, width = options.resize or (headers[0].height, headers[0].width)
        channels = said[2].shape[2] if said else _channels(headers, notes)
        if channels not in _MODES:
            raise kinds.unlike(files[0], f"{channels} channels", "1 to 4 at most")
        if said and not options.resize and (height, width) != said[2].shape[:2]:
            raise kinds.unlike(files[0], f"a picture of {_by(*said[2].shape[:2])}", _by(height, width))
        spec = ObservationSpec("image", (height, width, channels))
        name = said[1] if said else "image"

        def stream() -> Iterator[Recording]:
            for file, known in zip(files, headers, strict=True):
                pixels = picture(file, known, spec.shape, options.resize is not None)
                yield Recording({name: pixels[None]}, kinds.still(0), info=kinds.about(file, path))

        content = fingerprint(self.name, sha256(path), options)
        return Source(self.name, path, Signature({name: spec}, ActionSpec("none")), content, stream, 0, tuple(notes))

    def put(self, path: Path, draft: Draft) -> None:
        for name, spec in draft.signature.observations.items():
            if spec.kind == "image" and spec.shape[2] not in _MODES:
                raise UsageError("pictures of 1 to 4 channels", f"{spec.shape[2]} in {name!r}", "write .npz instead")
        kinds.put(path, draft, self.name, "image", ".png", _store)


def _store(file: Path, recording: Recording) -> None:
    if len(recording):
        raise UsageError("episodes of one moment for a folder of pictures", f"one of {len(recording) + 1}",
                         "write films (--to films, lossy) or .npz")
    (pixels,) = (value[0] for value in recording.observations.values())
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG", compress_level=4)


# Reading ----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture, its header read; whatever Pillow makes of a damaged or huge one becomes a DataError."""
    fix = "repair it, or remove it"
    with reading(f"a sound picture at {file}", Image.DecompressionBombError, fix=fix), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file, formats=_PLUGINS) as image:
            yield image


def header(file: Path) -> Header:
    """Size and mode, without decoding.

    Raises:
        DataError: no picture, one too large, one of more than 16 bits a channel.
    """
    with _opened(file) as image:
        width, height, mode = *image.size, image.mode
        turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        frames = int(getattr(image, "n_frames", 1))
    if not 0 < width * height <= LARGEST:
        raise DataError(f"a picture of at most {LARGEST:,} pixels at {file}", _by(height, width), "make it smaller")
    if mode in _TOO_DEEP:
        raise DataError(f"a picture of at most 16 bits a channel at {file}", f"mode {mode}",
                        "save measured fields as .npy")
    return Header(*((width, height) if turned else (height, width)), mode, frames)


def picture(file: Path, known: Header, shape: tuple[int, ...], resize: bool) -> Array:
    """One picture, (H, W, C) uint8, turned as it was seen, brought to `shape`.

    Raises:
        DataError: it is cut or damaged, or another than its header was.
    """
    height, width, channels = shape
    with _opened(file) as opened:
        if known.width * known.height != opened.width * opened.height:
            raise ValueError("it changed while it was read")
        image: Image.Image = opened
        image.load()
        if image.format == "JPEG":
            image = ImageOps.exif_transpose(image)
        if image.mode in _DEEP:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode != _MODES[channels]:
            image = image.convert(_MODES[channels])
        if resize and image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.array(image, np.uint8).reshape(shape)


def _sizes(files: list[Path], headers: list[Header], options: ReadOptions, notes: list[str]) -> None:
    """Refuse pictures of several sizes, unless they are brought to one."""
    sizes = Counter((h.height, h.width) for h in headers)
    if options.resize is not None:
        if sizes.keys() - {options.resize}:
            among = ", ".join(_by(*size) for size, _ in sizes.most_common(3)) + (" …" if len(sizes) > 3 else "")
            notes.append(f"resized to {_by(*options.resize)} from {among}")
        return
    usual, count = sizes.most_common(1)[0]
    odd = next((i for i, h in enumerate(headers) if (h.height, h.width) != usual), None)
    if odd is not None:
        size = _by(headers[odd].height, headers[odd].width)
        raise DataError(f"pictures of one size, {_by(*usual)} as {count:,} of {len(files):,} are",
                        f"{size} in {files[odd]}", "remove it, or bring all to one size (--resize HEIGHT WIDTH)")


def _channels(headers: list[Header], notes: list[str]) -> int:
    """1 if all are grey, else 3; what is changed to come there is noted."""
    modes = Counter(h.mode for h in headers)
    grey = sum(count for mode, count in modes.items() if mode in _GREY)
    told = [(modes[mode], words) for mode, words in _RENDERED.items()]
    told += [(sum(modes[m] for m in _DEEP), "of 16 bits, of which the upper 8 are kept")]
    told += [(modes["RGBA"] + modes["RGBa"] + modes["LA"] + modes["La"], "with transparency, which is left out")]
    told += [(grey if grey < len(headers) else 0, "in grey among others in colour, read as RGB")]
    told += [(sum(h.frames > 1 for h in headers), "of several frames, of which the first is read")]
    notes += [f"{count:,} of {len(headers):,} pictures {words}" for count, words in told if count]
    return 1 if grey == len(headers) else 3


def _by(height: int, width: int) -> str:
    return f"{height}×{width}"
