"""Five ways in which data arrive, on one playground: what a world model learns from each, and from all together.

Things are found without labels on films in which nobody acts; 64 labelled frames say which slot is which. Then one
world model is trained on each way's log, all of as many episodes; a few labelled steps teach those that have never
acted what their own pushes do, and nothing else of them changes. All are asked the same: where each kind of thing will
be 8 steps later, and to bring their own thing to a goal by plans, on whole pictures. The model of windows is also asked
to follow all things, and to act, with a window of a quarter of the picture that it moves itself.

together     a fifth of each way's episodes
action/few   trained on nothing but the few labelled steps
untrained    the filter as it is drawn: what moves goes on moving; told the few labelled steps as the others
random       pushes at random; foreseen: nothing moves
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steersman.evidence import data_modes_trial as trial
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.seeds import by_row
from steersman.perception import KeypointEncoder
from steersman.runs.artefacts import Column
from steersman.world_model import KalmanSlots
from steersman.worlds import Playground
from steersman.worlds.playground import MODES, OTHER, Mode

SEEDS = 3
TOGETHER, FEW, UNTRAINED, RANDOM = "together", "action/few", "untrained", "random"
ROWS = (*MODES, TOGETHER, FEW, UNTRAINED, RANDOM)
_FILE = "keypoints.safetensors"
_COLUMNS = (
    Column(key="foreseen", title="8 steps ahead", unit="pixels", better="lower"),
    Column(key="foreseen_own", title="own", unit="pixels", better="lower"),
    Column(key="foreseen_other", title="other's", unit="pixels", better="lower"),
    Column(key="foreseen_free", title="free", unit="pixels", better="lower"),
    Column(key="success", title="goals reached", form="share", better="higher"),
    Column(key="off", title="from the goal", unit="pixels", better="lower"),
    Column(key="latent_r2", title="R² latent action", better="higher"),
    Column(key="grip_r2", title="R² of the grip", better="higher"),
)


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of the table.

    row       of `ROWS`, or "keypoints"
    films, find, labels  that things are found on, updates for it, labelled frames
    episodes, steps, updates  of the log and of the training on it
    few, told  labelled episodes, and steps of each; taught: updates of the pushes on them
    tested    films that are foreseen and followed; acted, acting: episodes that act, and their steps
    """

    row: str = "keypoints"
    films: int = 150
    find: int = 240
    labels: int = 64
    episodes: int = 240
    steps: int = 40
    updates: int = 400
    few: int = 2
    told: int = 30
    taught: int = 80
    tested: int = 60
    acted: int = 40
    acting: int = 28


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Every way, three seeds of everything, of which the plain command performs the first."""
    found = []
    for i in range(SEEDS):
        things = Cell("keypoints", find, 40, seed + i, sizes, usual=i == 0)
        found += [Cell(row, perform, 20 if row == RANDOM else 250 if row == "foveation" else 160, seed + i,
                       msgspec.structs.replace(sizes, row=row), (things,), usual=i == 0) for row in ROWS]
    return tuple(found)


def find(context: Context) -> Found:
    """Learn to find things, for all ways alike."""
    sizes: Sizes = context.settings
    encoder, likeness = trial.find_things(Playground(), sizes.films, sizes.find, sizes.labels, 1000 + context.seed)
    save_file(encoder.state_dict(), context.folder / _FILE)
    context.say("each thing's correlation with its slot: " + ", ".join(f"{x:.4f}" for x in likeness.tolist()))
    return Found({"keypoints": {"correlation": float(likeness.min()), "labels": sizes.labels}})


def perform(context: Context) -> Found:
    """Record this way's log, train on it, and ask what is asked of all."""
    sizes: Sizes = context.settings
    world, seed = Playground(), context.seed
    encoder = KeypointEncoder.Config(image="image", corner="corner", scene=world.size, slots=world.count).build(
        trial.signature(world)).eval()
    encoder.load_state_dict(load_file(context.needs[0].folder / _FILE))
    test = world.play("action", sizes.tested, sizes.steps, torch.Generator().manual_seed(2000 + seed))
    if sizes.row == RANDOM:
        places = test.states[:, trial.WATCHED :, :, :2]
        still = places[:, trial.AHEAD :] - places[:, : -trial.AHEAD]
        off = trial.control(None, encoder, world, sizes.acted, sizes.acting, 3000 + seed)
        return Found({RANDOM: _foreseen(world, still.norm(dim=-1).flatten(0, 1)) | _reached(world, off)})
    labelled = trial.few(trial.record("action", world, encoder, sizes.few, sizes.told, 4000 + seed),
                         sizes.few, sizes.told)
    model = learned(sizes, world, encoder, labelled, seed)
    seen = trial.seen_whole(encoder, world, test.states)
    figures: dict[str, Any] = _foreseen(world, trial.foresee(model, seen, test.own, test.states))
    figures |= _reached(world, trial.control(model, encoder, world, sizes.acted, sizes.acting, 3000 + seed))
    figures["latent_r2"] = trial.latent_action_r2(model, test, seen, OTHER)
    figures["grip_r2"] = gripped(model, world)
    figures["labelled_steps"] = sizes.few * sizes.told
    if sizes.row == "foveation":
        figures |= looked(model, encoder, world, sizes, seed)
    context.say(f"{sizes.row}, seed {seed}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    return Found({sizes.row: figures})


def learned(sizes: Sizes, world: Playground, encoder: KeypointEncoder, labelled: trial.Log, seed: int) -> KalmanSlots:
    """The model of this row, and what its own pushes do."""
    model = trial.built(world, seed)
    row, log = sizes.row, 5000 + seed

    def recorded(mode: Mode, episodes: int, offset: int = 0) -> trial.Log:
        return trial.record(mode, world, encoder, episodes, sizes.steps, log + 100 * offset, model)

    def joined(*logs: trial.Log) -> trial.Log:
        return trial.Log(torch.cat([x.seen for x in logs]), torch.cat([x.own for x in logs]))

    if row == FEW:
        trial.fit(model, labelled, sizes.updates, seed)
    elif row == "foveation":  # the first half is looked at by the model as it is drawn, the second as it has learned
        first = recorded("foveation", sizes.episodes // 2)
        trial.fit(model, first, sizes.updates // 2, seed)
        second = recorded("foveation", sizes.episodes - sizes.episodes // 2, 1)
        trial.fit(model, joined(first, second), sizes.updates - sizes.updates // 2, seed + 1)
    elif row == TOGETHER:
        each = sizes.episodes // len(MODES)
        trial.fit(model, joined(*(recorded(mode, each, i) for i, mode in enumerate(MODES))), sizes.updates, seed)
    elif row != UNTRAINED:
        trial.fit(model, recorded(_mode(row), sizes.episodes), sizes.updates, seed)
    if row not in ("action", FEW, TOGETHER):
        trial.fit(model, labelled, sizes.taught, seed, (model.push,), 2e-3)
    return model.eval()


def looked(
    model: KalmanSlots, encoder: KeypointEncoder, world: Playground, sizes: Sizes, seed: int,
) -> dict[str, float]:
    """Following all things and acting by a window that is moved in four ways, beside whole pictures, the same model:
    R² of the believed places behind the first moments (`figure`, `full_picture`), and goals reached."""
    test = world.play("agency", sizes.tested, sizes.steps, torch.Generator().manual_seed(6000 + seed))
    found = {"share_of_pixels": world.share}
    for name in (*trial.LOOKS, "whole"):
        look = None if name == "whole" else name
        places = trial.follow(model, encoder, world, test.states, test.own, look, seed)[0][:, trial.WATCHED :]
        true = test.states[:, trial.WATCHED :, :, :2]
        off = places - true
        key = {"planned": "figure", "whole": "full_picture"}.get(name, f"figure_{name}")
        found[key] = float(1 - off.square().sum() / (true - true.mean((0, 1))).square().sum())
        found[f"known_{name}"] = float((off.norm(dim=-1) < world.radius).float().mean())
        if name in ("planned", "random"):
            end = trial.control(model, encoder, world, sizes.acted, sizes.acting, 3000 + seed, look)
            found[f"success_{name}"] = float((end < trial.REACHED).float().mean())
    return found


@torch.no_grad()
def gripped(model: KalmanSlots, world: Playground) -> float:
    """R² of the logarithm of the grip that was learned, up to one factor for all places, over a grid of places."""
    along = torch.linspace(-1, 1, 21) * (1 - world.radius)
    places = torch.cartesian_prod(along, along)
    learned_, true = (x[:, 0] - x[:, 0].mean() for x in (model.hold(places), world.grip(places).log()))
    return float(1 - (learned_ - true).square().sum() / true.square().sum())


def _mode(row: str) -> Mode:
    return next(mode for mode in MODES if mode == row)


def _foreseen(world: Playground, off: Tensor) -> dict[str, float]:
    """Means in pixels of distances (M, N), all things and each kind of them."""
    pixels = off.mean(0) * world.size / 2
    kinds = {f"foreseen_{kind}": float(pixels[list(which)].mean()) for kind, which in world.kinds.items()}
    return {"foreseen": float(pixels.mean()), **kinds}


def _reached(world: Playground, off: Tensor) -> dict[str, float]:
    return {"success": float((off < trial.REACHED).float().mean()), "off": float(off.mean() * world.size / 2)}


def summary(results: Results) -> Outcome:
    """{mode: `foreseen`, `foreseen_own`, `foreseen_other`, `foreseen_free` (pixels of 64), `success`, …}, "foveation"
    besides `share_of_pixels`, `figure`, `full_picture`, `figure_random`, `figure_raster`, `figure_middle`; means of the
    seeds that were performed."""
    notes = (f"Foreseen: {trial.AHEAD} steps after {trial.WATCHED} watched ones, own pushes known. Goal reached: own "
             "thing within a radius of it in the end, another agent pushing about. Labelled steps: 60, where nothing "
             "else told what one's own pushes do.",)
    figures, table = by_row(results, "data-modes", "What each way in which data arrive teaches", _COLUMNS,
                            kinds={FEW: "baseline", UNTRAINED: "baseline", RANDOM: "baseline"}, notes=notes)
    shown = picture(_draw(figures), "data-modes", "Five ways in which data arrive",
                    "error of foresight and goals reached for every way; R² of followed places by where one looks",
                    "Left: pixels of 64, eight steps ahead. Middle: 40 episodes a seed. Right: a window of "
                    f"{Playground().share:.0%} of the pixels, moved in four ways, beside the whole picture.")
    return Outcome(figures, (table,), (shown,))


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    drawn, (left, middle, right) = canvas(9.6, 3.2, 1, 3)
    rows = [row for row in ROWS if row in figures]
    for offset, (kind, colour) in enumerate((("own", "#d55e00"), ("other", "#009e73"), ("free", "#0072b2"))):
        left.barh([i + 0.25 * (offset - 1) for i in range(len(rows))],
                  [figures[row][f"foreseen_{kind}"] for row in rows], 0.25, color=colour, label=kind)
    left.set_yticks(range(len(rows)), rows)
    left.set_xlabel("pixels off, 8 steps ahead")
    left.legend(fontsize="x-small")
    middle.barh(range(len(rows)), [figures[row]["success"] for row in rows], color="#555555")
    middle.set_yticks(range(len(rows)), [""] * len(rows))
    middle.set_xlabel("goals reached")
    if "foveation" in figures:
        keys = {"figure": "planned", "figure_random": "random", "figure_raster": "raster", "figure_middle": "middle",
                "full_picture": "whole"}
        right.barh(range(len(keys)), [figures["foveation"][key] for key in keys], color="#cc79a7")
        right.set_yticks(range(len(keys)), list(keys.values()))
        right.set_xlabel("R² of places followed")
    for axis in (left, middle, right):
        axis.invert_yaxis()
    return drawn
