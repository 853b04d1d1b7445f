"""Fields in .npy, .npz and HDF5: what the axes are, one episode after the other, and numbers that cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from lone import comes_back, everything, nothing_but, refused, signature, still

from steersman.core import DataError, ObservationSpec, Recording, UsageError
from steersman.core.recording import Array
from steersman.data import ReadOptions, read, repair, write
from steersman.data.formats.field_axes import infer

DRAW = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return DRAW.normal(size=shape).astype(np.float32)


def fields(path: Path, **options: object) -> list[Array]:
    return [e.observations["field"] for e in everything(read(path, ReadOptions(**options)))]  # type: ignore[arg-type]


# Axes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "letters"), [
    ((200, 64), "tx"), ((200, 64, 64), "txy"), ((200, 64, 2), "txc"), ((50, 20, 64), "ntx"), ((200, 64, 64, 3), "txyc"),
    ((50, 20, 64, 64), "ntxy"), ((30, 32, 32, 32), "txyz"), ((50, 20, 64, 2), "ntxc"), ((200, 3, 64, 64), "tcxy"),
    ((50, 20, 64, 64, 4), "ntxyc"), ((50, 20, 4, 64, 64), "ntcxy"), ((5, 30, 32, 32, 32), "ntxyz"),
    ((2, 64, 64), "txy"), ((5, 30, 32, 32, 32, 2), "ntxyzc"), ((10_000, 201, 1024), "ntx"),
])
def test_axes_are_inferred_from_their_lengths(shape: tuple[int, ...], letters: str) -> None:
    assert infer(shape, "x").letters == letters


def test_what_is_said_of_the_grid_tells_its_axes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", floats(20, 12, 10))
    assert fields(tmp_path / "a.npy")[0].shape == (12, 10, 1)
    for options in ({"periodic": "xy"}, {"extent": (1.0, 2.0)}):
        assert fields(tmp_path / "a.npy", **options)[0].shape == (20, 12, 10, 1)


def test_what_was_inferred_is_noted_and_can_be_said_otherwise(tmp_path: Path) -> None:
    values = floats(20, 12, 12)
    np.save(tmp_path / "a.npy", values)
    source = read(tmp_path / "a.npy")
    assert source.notes == ("axes taken as t (20 moments), x (12), y (12); say --axes if they are others",)
    assert (source.steps, source.signature) == (19, signature("field", ObservationSpec("field", (12, 12, 1))))
    told = read(tmp_path / "a.npy", ReadOptions(axes="ntx"))
    assert (told.steps, told.notes) == (20 * 11, ())
    for number, episode in enumerate(everything(told)):
        assert np.array_equal(episode.observations["field"][..., 0], values[number])
        assert episode.info["episode"] == str(number)
    single = everything(read(tmp_path / "a.npy", ReadOptions(axes="nxy")))
    assert [len(e) for e in single] == [0] * 20


@pytest.mark.parametrize("order", ["C", "F"])
def test_axes_in_any_order_are_brought_into_ours(tmp_path: Path, order: str) -> None:
    values = floats(3, 5, 6, 2, 4)
    for letters in ("ntxyc", "tncyx", "xyctn", "cntyx"):
        at = ["ntxyc".index(letter) for letter in letters]
        np.save(tmp_path / "a.npy", np.asarray(values.transpose(at), order=order))  # type: ignore[call-overload]
        found = fields(tmp_path / "a.npy", axes=letters)
        swapped = letters.index("x") > letters.index("y")
        assert np.array_equal(found, values)
        assert swapped or found[0].shape == (5, 6, 2, 4)


@pytest.mark.parametrize(("axes", "error", "words"), [
    ("tq", UsageError, "axes of a field.*'tq'"), ("ttx", UsageError, "'ttx'"), ("ty", UsageError, "x at least"),
    ("txyz", DataError, r"4 axes \(txyz\) in .*got shape \(20, 12, 12\)"),
])
def test_axes_that_cannot_be(tmp_path: Path, axes: str, error: type[DataError], words: str) -> None:
    np.save(tmp_path / "a.npy", floats(20, 12, 12))
    refused(lambda: read(tmp_path / "a.npy", ReadOptions(axes=axes)), error, words)


def test_what_is_known_of_the_grid_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", floats(20, 12, 10, 2))
    options = ReadOptions(axes="txyc", periodic="y", extent=(2.0, 1.0), names={"field": ("u", "v")})
    wanted = ObservationSpec("field", (12, 10, 2), channels=("u", "v"), periodic=(False, True), extent=(2.0, 1.0))
    assert read(tmp_path / "a.npy", options).signature.observations["field"] == wanted
    for bad, words in ((ReadOptions(axes="txyc", periodic="z"), "periodic axes among xy"),
                       (ReadOptions(axes="txyc", extent=(1.0,)), "2 lengths"),
                       (ReadOptions(extent=(1.0, -1.0)), "2 lengths above 0")):
        refused(lambda bad=bad: read(tmp_path / "a.npy", bad), UsageError, words)  # type: ignore[misc]
    wrong = ReadOptions(axes="txyc", names={"field": ("u",)})
    refused(lambda: read(tmp_path / "a.npy", wrong), DataError, "2 names for the quantities")


# Numbers ----------------------------------------------------------------------------------------------------------


def test_float64_is_rounded_with_a_word_and_whole_numbers_without(tmp_path: Path) -> None:
    values = DRAW.normal(size=(20, 12, 12))
    np.save(tmp_path / "a.npy", values)
    assert "float64 is rounded to float32" in read(tmp_path / "a.npy").notes
    assert np.array_equal(fields(tmp_path / "a.npy")[0][..., 0], values.astype(np.float32))
    for exact in (np.round(values * 100), np.round(values * 9).astype(np.int64), values > 0, values.astype(np.float16)):
        np.save(tmp_path / "a.npy", exact)
        assert len(read(tmp_path / "a.npy").notes) == 1
        assert np.array_equal(fields(tmp_path / "a.npy")[0][..., 0], exact.astype(np.float32))


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, r"1e\+300")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, bad: float, said: str) -> None:
    values = np.zeros((4, 20, 12, 12))
    values[2, 7, 3, 5] = bad
    np.save(tmp_path / "a.npy", values)
    source = read(tmp_path / "a.npy")
    refused(lambda: everything(source), DataError, rf"a\.npy, episode 2; got {said} at t = 7, x = 3, y = 5 \(1 such\)")
    assert len(everything(repair(str(tmp_path / "a.npy")).source)) == 2


def npy(path: Path, head: str, content: bytes = b"") -> None:
    text = head.encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content)


def test_pickles_structures_and_impossible_files(tmp_path: Path) -> None:
    class Loud:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    path = tmp_path / "a.npy"

    def refuse(words: str) -> None:
        refused(lambda: everything(read(path, limits=None)), DataError, words)
        refused(lambda: everything(read(path)), DataError, words)

    np.save(path, np.array([[Loud()] * 2] * 3, object), allow_pickle=True)
    refuse(r"real numbers in .*a\.npy; got objects \(pickles")
    path.write_bytes(pickle.dumps(Loud()))
    refuse("a sound .npy file")
    assert not (tmp_path / "ran").exists()
    np.save(path, np.zeros((3, 4), [("u", "f4"), ("v", "f4")]))
    refuse("real numbers.*save float32")
    np.save(path, np.zeros((3, 4), np.complex64))
    refuse("real numbers.*complex64")
    np.save(path, np.zeros((0, 4), np.float32))
    refuse("for shape")
    np.save(path, np.zeros(9, np.float32))
    refuse(r"a field \(T, X.*got shape \(9,\)")
    npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000, 9), }", bytes(8))
    refuse("36,000,000,000,000,000,000 bytes.*got 8")
    npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }", bytes(24))
    refuse("bytes of numbers|a sound")
    npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3")
    refuse("a sound .npy file")
    path.write_bytes(b"")
    refuse("a sound .npy file")


def test_a_cut_file_is_repaired_to_its_whole_rows(tmp_path: Path) -> None:
    values = floats(5, 20, 12, 12)
    np.save(tmp_path / "a.npy", values)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[: -values[0].nbytes - 7])
    refused(lambda: read(tmp_path / "a.npy"), DataError, r"57,600 bytes of numbers.*--repair")
    kept = repair(str(tmp_path / "a.npy"))
    assert np.array_equal([e.observations["field"][..., 0] for e in kept.source.recordings()], values[:3])
    assert kept.lost == ("kept 3 of 5 rows; lost: the others",)


# Folders and writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(6,), (6, 5), (4, 3, 5)])
def test_what_is_written_comes_back_bit_for_bit(tmp_path: Path, grid: tuple[int, ...]) -> None:
    axes = len(grid)
    spec = ObservationSpec("field", (*grid, 2), channels=("u", "v"), periodic=(True,) * axes, extent=(1.5,) * axes)
    log = [still("heat", floats(n, *grid, 2), info={"label": label}) for n, label in ((3, "a"), (1, "."), (5, "a"))]
    comes_back(tmp_path / "log", signature("heat", spec), log, "fields")


def test_files_of_a_folder_share_their_grid(tmp_path: Path) -> None:
    np.save(tmp_path / "run2.npy", floats(20, 12, 12))
    np.save(tmp_path / "run10.npy", floats(30, 12, 12))
    assert [len(e) for e in everything(read(tmp_path))] == [19, 29]
    np.save(tmp_path / "run11.npy", floats(30, 13, 13))
    refused(lambda: read(tmp_path), DataError, r"\(12, 12\) with 1 quantities.*got \(13, 13\) with 1 in run11\.npy")


def test_a_large_array_is_read_episode_by_episode(tmp_path: Path) -> None:
    """A file of 64 GB, nearly all of it a hole, of which three episodes are read."""
    import resource

    shape = (1_000_000, 16, 32, 32)
    npy(tmp_path / "a.npy", f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(128 + 4 * int(np.prod(shape)))
        file.seek(128 + 4 * 2 * 16 * 32 * 32)
        file.write(np.full((16, 32, 32), 7, "<f4").tobytes())
    from steersman.data.formats import fields as module
    from steersman.data.formats.field_arrays import assembled

    tree = {"a": module._leaf(tmp_path / "a.npy")}
    log = assembled(tree, {"a": ("a",)}, ReadOptions(), "a")
    assert (log.steps, log.axes[0].letters) == (15_000_000, "ntxy")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    episodes = log.recordings(tree, "a")
    means = [float(next(episodes).observations["field"].mean()) for _ in range(3)]
    assert means == [0, 0, 7]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


# Trees of arrays --------------------------------------------------------------------------------------------------


def h5(path: Path, **arrays: Array) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name.replace("__", "/").replace("_coordinate", "-coordinate")] = value
    return path


LINE = np.linspace(0, 1, 33)[:-1] + 0.5 / 32


def test_one_array_of_samples_with_coordinates(tmp_path: Path) -> None:
    values = floats(4, 21, 32)
    times = np.linspace(0, 2, 22)
    source = read(h5(tmp_path / "a.h5", tensor=values, x_coordinate=LINE, t_coordinate=times))
    (spec,) = source.signature.observations.values()
    assert spec.shape == (32, 1)
    assert spec.extent == pytest.approx((1.0,))
    assert (source.format, source.steps) == ("hdf5", 80)
    for number, episode in enumerate(everything(source)):
        assert np.array_equal(episode.observations["field"][..., 0], values[number])
        assert np.array_equal(episode.times, times[:21])  # type: ignore[arg-type]


def test_an_array_for_each_quantity(tmp_path: Path) -> None:
    arrays = {name: floats(3, 21, 16, 16) for name in ("Vx", "density", "pressure")}
    source = read(h5(tmp_path / "a.h5", **arrays))
    assert source.signature.observations["field"] == ObservationSpec(
        "field", (16, 16, 3), channels=("Vx", "density", "pressure")
    )
    last = everything(source)[-1].observations["field"]
    assert np.array_equal(last, np.stack([value[-1] for value in arrays.values()], -1))
    some = read(tmp_path / "a.h5", ReadOptions(observation=("density",)))
    assert np.array_equal(everything(some)[0].observations["field"][..., 0], arrays["density"][0])


def test_a_group_for_each_sample(tmp_path: Path) -> None:
    values = floats(3, 21, 16, 16, 2)
    arrays = {f"{i:04d}__data": values[i] for i in range(3)} | {f"{i:04d}__grid__t": np.arange(21.0) for i in range(3)}
    source = read(h5(tmp_path / "a.h5", **arrays))
    log = everything(source)
    assert np.array_equal([e.observations["field"] for e in log], values)
    assert all(np.array_equal(e.times, np.arange(21.0)) for e in log)  # type: ignore[arg-type]


def test_npz_and_arrays_that_are_no_single_field(tmp_path: Path) -> None:
    values = floats(4, 20, 12, 12)
    np.savez(tmp_path / "a.npz", u=values)
    assert np.array_equal([f[..., 0] for f in fields(tmp_path / "a.npz")], values)
    np.savez(tmp_path / "a.npz", u=values, nu=floats(4, 12, 12))
    refused(lambda: read(tmp_path / "a.npz"), DataError, "arrays of one shape.*or an array of actions.*--observation")
    assert len(fields(tmp_path / "a.npz", observation=("u",))) == 4
    np.savez(tmp_path / "a.npz", state=floats(4, 20))
    refused(lambda: read(tmp_path / "a.npz"), DataError, "an array of actions")
    assert fields(tmp_path / "a.npz", axes="tx")[0].shape == (4, 20, 1)
    refused(lambda: read(tmp_path / "a.npz", ReadOptions(axes="txyzc")), DataError, "an array with the axes of a field")
    np.savez(tmp_path / "a.npz", obs=floats(20, 12, 12), actions=floats(20, 2))
    refused(lambda: read(tmp_path / "a.npz"), DataError, "vectors .* or uint8 images")  # a log with actions stays one


def test_what_fields_cannot_hold(tmp_path: Path) -> None:
    kind = signature("mic", ObservationSpec("waveform", (4, 1)))
    refused(lambda: write(tmp_path / "x", kind, [], format="fields"), UsageError, r"kind field.*mic \(waveform\)")
    spec = signature("f", ObservationSpec("field", (4, 1)))
    bad: list[Recording] = [still("f", np.full((2, 4, 1), np.nan, np.float32))]
    refused(lambda: write(tmp_path / "x", spec, bad, format="fields"), DataError, "NaN or infinity at row 0")
    nothing_but(tmp_path, [])
