"""Where the networks of frozen backbones come from: timm's models and modules that people register; their weights.

Knows features of pictures, no state. Shapes: N pictures, (H, W) pixels, n places, W features of one.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from steersman.core.errors import CheckpointError, ConfigError, MismatchError, PartError, UsageError
from steersman.core.extras import require
from steersman.nn.weights import WeightsFile, open_weights

TIMM = "timm/"
FOLDER = "STEERSMAN_WEIGHTS"
"""Environment variable: a folder in which a file of weights is looked for by its name, where its path is not there."""
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Make = TypeVar("Make", bound=Callable[[], nn.Module])
_REGISTERED: dict[str, Callable[[], nn.Module]] = {}


def register_backbone(name: str) -> Callable[[Make], Make]:
    """Decorator: a function that makes a network of yours, which configurations then name as `model`.

    The network maps pictures (N, 3, H, W), normalised, to features (N, W), (N, n, W) or (N, W, h, w). What makes it is
    called with nothing, and may read weights itself; several times, also on the meta device.

    Registered again under the same name, the newer one counts.

    Raises:
        ConfigError: a name that is empty or timm's.
    """
    if not name or name.startswith(TIMM):
        raise ConfigError(f"a name of a network that does not begin with {TIMM!r}", repr(name), "choose another name")

    def add(make: Make) -> Make:
        _REGISTERED[name] = make
        return make

    return add


@dataclass(frozen=True)
class Origin:
    """Which network, and whose weights.

    model       "timm/NAME", or a name of `register_backbone`
    weights     safetensors file; "": none
    sha256      of that file; "": any
    pretrained  the weights that timm publishes under this name, downloaded if they are not there
    """

    model: str
    weights: str = ""
    sha256: str = ""
    pretrained: bool = False


@dataclass(frozen=True)
class Shape:
    """What comes out for pictures of one size: n places of W features, behind `special` tokens that are no places.

    channels  entries of the axis of features: 1, or -1 where it is the last of several
    mean, deviation  by which pictures in 0..1 are normalised
    """

    places: int
    width: int
    special: int
    channels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def shape_of(origin: Origin, pixels: tuple[int, int]) -> Shape:
    """Of its features for pictures of so many pixels, found out without weights or memory.

    In a thread of its own, because what watches this one for allocations (`agent.building.blueprint`) would count
    those of the meta device.

    Raises:
        ConfigError: no such model, or pictures of a size that it does not take.
        PartError: nobody registered it.
        UsageError: timm is not installed.
    """

    def probe() -> Shape:
        with torch.device("meta"), torch.no_grad():
            network = _made(origin, pixels).eval()
            y = features_of(network, torch.empty(1, 3, *pixels))
        described: Any = network  # timm's models say these of themselves, and others need not
        pretrained = getattr(described, "pretrained_cfg", None) or {}
        special = int(getattr(described, "num_prefix_tokens", 0)) if y.dim() == 3 else 0
        width = int(getattr(described, "num_features", y.shape[1 if y.dim() == 4 else -1]))
        channels = 1 if y.dim() == 4 and y.shape[1] == width else -1
        places = y[0].numel() // y.shape[channels] - special
        norms = (tuple(map(float, pretrained.get(key, other))) for key, other in zip(("mean", "std"), _IMAGENET,
                                                                                     strict=True))
        return Shape(places, y.shape[channels], special, channels, *norms)

    def said(error: Exception) -> ConfigError:
        got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return ConfigError(f"features of {origin.model} for pictures of {pixels[0]}×{pixels[1]}", got,
                           "set `pixels` to a multiple of its patches, or choose another model")

    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(probe).result()
        except (ConfigError, UsageError):
            raise
        except Exception as error:  # what other people's code raises for a size is not documented
            raise said(error) from error


def network_of(origin: Origin, pixels: tuple[int, int], *, read: bool = True) -> nn.Module:
    """The network in evaluation mode, frozen; read: with its weights.

    Raises:
        UsageError: the file is not there, is a pickle, or weights cannot be downloaded.
        CheckpointError: the file is another one, or does not fit.
    """
    with torch.random.fork_rng([]):  # first numbers that weights replace are no part of a training's randomness
        network = _made(origin, pixels, read=read)
    if read and origin.weights and not origin.model.startswith(TIMM):
        try:
            network.load_state_dict(_file(origin).tensors())
        except RuntimeError as error:
            raise _unfit(origin, error) from error
    return network.eval().requires_grad_(False)


def features_of(network: nn.Module, x: Tensor) -> Tensor:
    """Normalised pictures (N, 3, H, W) -> features as the network has them: (N, W), (N, n, W), (N, W, h, w), …"""
    forward = getattr(network, "forward_features", network)  # timm's name for all but the classifier
    y = forward(x)
    if not isinstance(y, Tensor) or y.dim() not in (2, 3, 4) or len(y) != len(x):
        got = f"{tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ConfigError("features (N, W), (N, n, W) or (N, W, h, w) of a backbone", got,
                          "register a module that returns one such tensor")
    return y


def places_of(y: Tensor, shape: Shape) -> Tensor:
    """Those features as (N, special + n, W)."""
    if y.dim() == 2:
        return y[:, None]
    if y.dim() == 4:
        y = y.permute(0, 2, 3, 1) if shape.channels == 1 else y
        return y.flatten(1, 2)
    return y


def digest_of(network: nn.Module) -> Tensor:
    """SHA-256 of all weights and buffers by name, (32,) uint8."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def require_digest(origin: Origin, wanted: Tensor, found: Tensor) -> None:
    """Refuse other weights than those whose features something was trained on.

    Raises:
        MismatchError: they are others.
    """
    if not torch.equal(wanted.cpu(), found):
        whole = (bytes(x.cpu().tolist()).hex()[:12] for x in (wanted, found))
        expected, got = (f"SHA-256 {x}…" for x in whole)
        raise MismatchError(f"the weights of {origin.model} on whose features this was trained, {expected}", got,
                            "use the file that it was trained with")


def _made(origin: Origin, pixels: tuple[int, int], *, read: bool = False) -> nn.Module:
    if not origin.model.startswith(TIMM):
        if origin.model not in _REGISTERED:
            known = ", ".join(sorted(_REGISTERED)) or "none"
            raise PartError(f"a backbone {TIMM}NAME, or one that is registered: {known}", repr(origin.model),
                            "import the module that calls `register_backbone` for it")
        return _REGISTERED[origin.model]()
    timm = require("timm", "timm")
    name = origin.model.removeprefix(TIMM)
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:6]) or "timm.list_models() names all"
        raise ConfigError(f"a model of timm, such as {near}", repr(name), "correct `model`")
    how: dict[str, Any] = {"num_classes": 0}
    if read and origin.weights:
        how |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": _file(origin).tensors()}}
    elif read and origin.pretrained:
        how |= {"pretrained": True}
    try:
        return cast(nn.Module, _sized(timm, name, pixels, how))
    except (RuntimeError, KeyError) as error:
        if not (read and origin.weights):
            raise
        raise _unfit(origin, error) from error
    except Exception as error:  # a hub's client raises many kinds; which ones is not documented
        if not (read and origin.pretrained):
            raise
        got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise UsageError(f"the published weights of {origin.model}", got, "download them where there is a network, and "
                         "name the safetensors file in `weights`") from error


def _sized(timm: Any, name: str, pixels: tuple[int, int], how: dict[str, Any]) -> Any:
    """Transformers are made for one size of pictures; convolutional networks take any, and refuse to be told."""
    level = logging.getLogger("timm").level
    logging.getLogger("timm").setLevel(logging.WARNING)
    try:
        return timm.create_model(name, img_size=pixels, **how)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **how)
    finally:
        logging.getLogger("timm").setLevel(level)


def _file(origin: Origin) -> WeightsFile:
    path = Path(origin.weights)
    if not path.exists() and FOLDER in os.environ:
        path = Path(os.environ[FOLDER]) / path.name
    if not path.exists():
        raise UsageError(f"weights of {origin.model} at {origin.weights}", "no such file",
                         f"put it there, or name the folder where it is in the environment variable {FOLDER}")
    return open_weights(path, origin.sha256)


def _unfit(origin: Origin, error: Exception) -> CheckpointError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return CheckpointError(f"weights that fit {origin.model} in {Path(origin.weights).name}",
                           " ".join(lines[:2])[:200] or type(error).__name__, "use weights of this very model")
