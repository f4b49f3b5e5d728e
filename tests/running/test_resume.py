"""A fit that was killed, interrupted, or short of disk, and started again: the bits of one that never was."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import subprocess_jobs
from helpers.fit_bits import fitted
from helpers.watched_source import Countdown, WatchedSource, open_data
from streamem import GaussianMixture, StreamemError
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.errors import CheckpointMismatchError, ModelFileError
from streamem.running import starts

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_ROWS, N_FEATURES, N_CHUNKS = 12_000, 3, 12
CHUNK_BYTES = 8 * N_FEATURES * N_ROWS // N_CHUNKS
SETTINGS: dict[str, Any] = {
    "n_components": 3,
    "init_params": "random_from_data",
    "tol": 0.0,
    "max_iter": 12,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Overlapping clusters, on which EM is far from its end after twelve iterations; and weights."""
    folder = tmp_path_factory.mktemp("resume")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N_ROWS, N_FEATURES)) * [1.0, 2.0, 0.5] + rng.integers(0, 3, (N_ROWS, 1)) * 1.5
    np.save(folder / "x.npy", x)
    np.save(folder / "weight.npy", rng.uniform(0, 2, N_ROWS))
    return folder


@pytest.fixture
def data(folder: Path) -> str:
    return str(folder / "x.npy")


def source_of(data: str) -> Any:
    return open_data(data, CHUNK_BYTES)


def fit(data: Any, checkpoint: Path | None = None, weight: str | None = None, **settings: Any) -> GaussianMixture:
    source = source_of(data) if isinstance(data, str) else data
    return GaussianMixture(**{**SETTINGS, **settings}).fit(source, sample_weight=weight, checkpoint=checkpoint)


class CrashError(Exception):
    """The stand-in for a crash where a real one would teach no more."""


def crash_at(data: str, load: int, checkpoint: Path, **settings: Any) -> None:
    """A fit that ends with an exception when it reads its `load`-th chunk."""

    def crash() -> None:
        raise CrashError

    with pytest.raises(CrashError):
        fit(WatchedSource(source_of(data), Countdown(load, crash)), checkpoint, **settings)


def load_of(iteration: int) -> int:
    """The first read of the pass that comes after so many iterations of the first start (the sample is a pass too)."""
    return N_CHUNKS * (iteration + 1) + N_CHUNKS // 2


def share_reads(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """As if memory had room for so many starts at once."""
    project = starts._project

    def smaller(job: starts.Job, *plan: Any) -> Any:
        return min(most, job.n_init), project(job, *plan)[1]

    monkeypatch.setattr(starts, "_project", smaller)


def unhex(answer: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in answer.items()}


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of what is not the same."""
    return [name for name in one if one[name] != other[name]]


# --- SIGKILL ---------------------------------------------------------------------------------------------------------

KILLED = [
    (0, {"covariance_type": "full"}, None),
    (1, {"covariance_type": "tied", "n_init": 3, "max_iter": 5}, None),
    (2, {"covariance_type": "diag", "n_init": 3, "max_iter": 5, "init_params": "kmeans"}, "weight.npy"),
    (3, {"covariance_type": "spherical", "n_threads": 4}, "weight.npy"),
]


@pytest.mark.parametrize(("seed", "settings", "weight"), KILLED)
def test_killed_at_random_chunks(
    folder: Path, tmp_path: Path, seed: int, settings: dict[str, Any], weight: str | None
) -> None:
    arguments: dict[str, Any] = {
        "data": str(folder / "x.npy"),
        "chunk_bytes": CHUNK_BYTES,
        "settings": {**SETTINGS, **settings},
        "checkpoint": tmp_path / "run.npz",
        "weight": weight and str(folder / weight),
    }
    reference = fit(arguments["data"], None, arguments["weight"], **{**settings, "n_threads": 1})
    rng = np.random.default_rng(seed)
    kills = 0
    for _ in range(3):
        # Past the sampling pass, and so early that two kills come before the end even if everything was saved.
        n_bytes = int(rng.integers(N_CHUNKS, N_CHUNKS * 4))
        kills += subprocess_jobs.kill_after(subprocess_jobs.start("fit", **arguments, pause_at=n_bytes), n_bytes)
    assert kills > 1
    final = unhex(subprocess_jobs.run("fit", **arguments))
    assert differences(fitted(reference), final) == []


def test_killed_at_every_step_of_saving(data: str, tmp_path: Path) -> None:
    """The first save opens a file and renames it; later ones rename the older generations too."""
    path = tmp_path / "run.npz"
    arguments = {"data": data, "chunk_bytes": CHUNK_BYTES, "settings": SETTINGS, "checkpoint": path}
    iterations = []
    for event in (12, 13, 14, 15, 16):
        process = subprocess_jobs.start("fit", **arguments, kill_at_file_event=event)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        iterations.append(newest_iteration(path))
    assert iterations == sorted(iterations)
    assert 0 < iterations[-1] < SETTINGS["max_iter"]
    assert differences(fitted(fit(data)), fitted(fit(data, path))) == []


def newest_iteration(path: Path) -> int:
    newest = path if path.exists() else Path(f"{path}.1")
    return int(read_archive(newest, "checkpoint").arrays["state.iteration"])


# --- the random state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "together"), [(load_of(2), 3), (load_of(2), 2), (load_of(2) + 7 * N_CHUNKS, 2)])
def test_without_a_seed_the_checkpoint_has_it(
    data: str, tmp_path: Path, load: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed where three starts share their reads, or two and then one, which draws from the generator in the file."""
    share_reads(monkeypatch, together)
    several = {"n_init": 3, "max_iter": 5}
    reference = fit(data, random_state=np.random.RandomState(5), **several)
    crash_at(data, load, tmp_path / "run.npz", random_state=np.random.RandomState(5), **several)
    resumed = fit(data, tmp_path / "run.npz", random_state=None, **several)
    assert differences(fitted(reference), fitted(resumed)) == []


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ten_iterations_are_five_saved_loaded_and_five(
    data: str, tmp_path: Path, covariance_type: str, dtype: type
) -> None:
    x = np.load(data).astype(dtype)
    settings = {**SETTINGS, "covariance_type": covariance_type, "stopping": "change", "chunk_bytes": CHUNK_BYTES}
    ten = GaussianMixture(**{**settings, "max_iter": 10}).fit(x)
    GaussianMixture(**{**settings, "max_iter": 5}, warm_start=True).fit(x).save(tmp_path / "five.npz")
    both = GaussianMixture.load(tmp_path / "five.npz").fit(x)
    assert both.lower_bounds_ == ten.lower_bounds_[5:]
    assert (both.n_iter_, ten.n_iter_) == (5, 10)
    assert set(differences(fitted(ten), fitted(both))) <= {"lower_bounds", "n_iter"}


def test_a_larger_max_iter_goes_on(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    assert fit(data, path, max_iter=5).n_iter_ == 5
    reads: list[int] = []
    more = fit(WatchedSource(source_of(data), lambda ref: reads.append(ref.index)), path, max_iter=12)
    assert len(reads) == 8 * N_CHUNKS  # seven iterations and the pass that judges the last: nothing is done again
    assert differences(fitted(fit(data, max_iter=12)), fitted(more)) == []


def test_a_larger_max_iter_after_a_crash_in_the_last_pass(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    crash_at(data, load_of(5), path, max_iter=5)
    assert differences(fitted(fit(data, max_iter=12)), fitted(fit(data, path, max_iter=12))) == []


def test_several_starts_do_not_mix_endings(data: str, tmp_path: Path) -> None:
    """Earlier starts have ended for good, so another max_iter is another run."""
    path = tmp_path / "run.npz"
    fit(data, path, max_iter=3, n_init=3)
    with pytest.raises(CheckpointMismatchError, match=r"at most 3 iterations.* there, .*at most 8 iterations.* now"):
        fit(data, path, max_iter=8, n_init=3)


def test_a_smaller_tolerance_goes_on(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    assert fit(data, path, tol=1e-2).converged_
    assert differences(fitted(fit(data, tol=1e-9)), fitted(fit(data, path, tol=1e-9))) == []


def test_a_finished_run_is_not_run_again(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    first = fit(data, path)
    reads: list[int] = []
    second = fit(WatchedSource(source_of(data), lambda ref: reads.append(ref.index)), path)
    assert reads == []
    assert differences(fitted(first), fitted(second)) == []
    assert len(second.report_.passes) == len(first.report_.passes)


def test_the_report_covers_all_passes(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    crash_at(data, load_of(4), path)
    resumed = fit(data, path)
    assert [record.iteration for record in resumed.report_.passes] == list(range(SETTINGS["max_iter"] + 1))


# --- other runs ------------------------------------------------------------------------------------------------------

OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"n_components": 4}, "n_components: 3 there, 4 now"),
    ({"covariance_type": "tied"}, "covariance_type: 'full' there, 'tied' now"),
    ({"reg_covar": 1e-3}, "reg_covar: 1e-06 there, 0.001 now"),
    ({"random_state": 7}, "random_state: 0 there, 7 now"),
    ({"init_params": "kmeans"}, "init_params: 'random_from_data' there, 'kmeans' now"),
    ({"n_init": 2}, "n_init: 1 there, '2 starts"),
    ({"means_init": np.eye(3).tolist()}, "given start: "),
]


@pytest.mark.parametrize(("changed", "words"), OTHERS, ids=lambda value: str(value)[:30])
def test_a_checkpoint_of_other_settings_is_refused(
    data: str, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    path = tmp_path / "run.npz"
    fit(data, path, max_iter=2)
    saved = path.read_bytes()
    with pytest.raises(CheckpointMismatchError) as caught:
        fit(data, path, max_iter=2, **changed)
    assert isinstance(caught.value, StreamemError | ValueError)
    assert words in str(caught.value)
    assert str(caught.value).count(" there, ") == 1, "only what differs is named"
    assert str(path) in str(caught.value)
    assert path.read_bytes() == saved


def test_a_checkpoint_of_other_data_is_refused(data: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    fit(data, path, max_iter=2)
    saved = path.read_bytes()
    x = np.load(data)
    x[0, 0] += 1e-9
    for other in (source_of_array(x), source_of_array(x[:-1])):
        with pytest.raises(CheckpointMismatchError, match=r"data: '.*' there, '.*' now"):
            fit(other, path, max_iter=2)
    with pytest.raises(CheckpointMismatchError, match=r"data: .*weights"):
        fit(data, path, str(folder / "weight.npy"), max_iter=2)
    with pytest.raises(CheckpointMismatchError, match=r"plan: '12 chunks.* there, '6 chunks.* now"):
        fit(open_data(data, 2 * CHUNK_BYTES), path, max_iter=2)
    assert path.read_bytes() == saved


def source_of_array(x: np.ndarray[Any, Any]) -> Any:
    from streamem import ReadOptions, open_source

    return open_source(x, options=ReadOptions(chunk_bytes=CHUNK_BYTES))


def test_a_model_is_no_checkpoint(data: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    fit(data, max_iter=2).save(path)
    saved = path.read_bytes()
    with pytest.raises(ModelFileError, match="is a model, not a checkpoint"):
        fit(data, path, max_iter=2)
    assert path.read_bytes() == saved


# --- damaged checkpoints ---------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "bit flip": flip,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_falls_back(
    data: str, tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.npz"
    crash_at(data, load_of(6), path)
    assert newest_iteration(path) == 6
    damage(path)
    with caplog.at_level("INFO", "streamem"):
        resumed = fit(data, path)
    assert f"Going on with the older generation {path}.1" in caplog.text
    assert f"resuming from {path}.1 at start 0, iteration 5" in caplog.text
    assert differences(fitted(fit(data)), fitted(resumed)) == []


def test_no_generation_can_be_read(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    crash_at(data, load_of(6), path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    for file in files:
        truncate(file)
    with pytest.raises(ModelFileError, match="none of 3 generations can be read"):
        fit(data, path)
    assert sorted(tmp_path.iterdir()) == files


def test_a_checkpoint_of_a_newer_version_is_refused(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on from an older generation would undo what the newer streamem did."""
    path = tmp_path / "run.npz"
    crash_at(data, load_of(6), path)
    saved = read_archive(path, "checkpoint")
    with monkeypatch.context() as patch:
        patch.setattr("streamem.core.archive.SCHEMA", 99)
        write_archive(path, "checkpoint", saved.meta, saved.arrays)
    with pytest.raises(ModelFileError, match=r"with schema 99; .*upgrade streamem"):
        fit(data, path)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def interrupt_after(n_bytes: int, **arguments: Any) -> str:
    """What a fit prints that gets SIGINT after so many chunks."""
    process = subprocess_jobs.start("fit", **arguments, pause_at=n_bytes, pause_s=1.0)
    subprocess_jobs.await_progress(process, n_bytes)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode not in (0, -signal.SIGKILL)
    return err.decode()


def test_control_c_leaves_the_checkpoint_and_says_how_to_resume(data: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    arguments = {"data": data, "chunk_bytes": CHUNK_BYTES, "settings": SETTINGS, "checkpoint": path}
    printed = interrupt_after(load_of(3), **arguments)
    assert "KeyboardInterrupt" in printed
    assert f"the last complete iteration is in {path}; the same call goes on from there" in printed
    assert newest_iteration(path) >= 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.npz", "run.npz.1", "run.npz.2"]
    assert differences(fitted(fit(data)), fitted(fit(data, path))) == []


def test_control_c_while_sampling_says_how_to_go_on(data: str, tmp_path: Path) -> None:
    """In this process: the first chunk read is one of the sample."""

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    told = []
    for checkpoint in (None, tmp_path / "run.npz"):
        with pytest.raises(KeyboardInterrupt) as caught:
            fit(WatchedSource(source_of(data), interrupt), checkpoint)
        told += caught.value.__notes__
    assert told == [
        "nothing was saved: pass checkpoint='run.npz' to make a fit resumable",
        "no iteration was complete yet, so nothing was saved; the same call starts again",
    ]


def test_control_c_without_checkpoint_says_what_would_have_helped(data: str) -> None:
    settings = {**SETTINGS, "max_iter": 500}
    printed = interrupt_after(load_of(3), data=data, chunk_bytes=CHUNK_BYTES, settings=settings)
    assert "nothing was saved: pass checkpoint='run.npz' to make a fit resumable" in printed


# --- a full disk -----------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_saved_before(data: str, tmp_path: Path) -> None:
    settings = {**SETTINGS, "max_iter": 3}
    answer = subprocess_jobs.run(
        "fill_disk",
        data=data,
        chunk_bytes=CHUNK_BYTES,
        settings=settings,
        folder=tmp_path,
        full_at_load=load_of(2),
    )
    for what in ("fit", "save", "first save", "zarr", "parquet", "npy"):
        assert answer[what].startswith("OutputError: cannot write"), (what, answer[what])
        assert "File too large" in answer[what]
    assert "the earlier file is intact" in answer["fit"]
    assert "the earlier file is intact" in answer["save"]
    assert "no file was left behind" in answer["first save"]
    found = {file.name for file in tmp_path.iterdir()}
    assert found == {"model.npz", "run.npz", "run.npz.1", "run.npz.2"}, "nothing half-written is left"
    reference = fit(data, max_iter=3)
    assert differences(fitted(reference), fitted(GaussianMixture.load(tmp_path / "model.npz"))) == []
    shutil.copy(tmp_path / "run.npz", tmp_path / "copy.npz")
    assert differences(fitted(reference), fitted(fit(data, tmp_path / "copy.npz", max_iter=3))) == []
