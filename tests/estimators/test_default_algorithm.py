"""The algorithm of a fit that names none: "batch" where what is read is kept, else one that saves passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from test_house import ESTIMATORS, response, rows, unfitted

from helpers.interruptions import Stop, stops_after
from streamem import GaussianHMM, GaussianMixture, open_source, select
from streamem.cli.main import main
from streamem.core.errors import MemoryLimitError
from streamem.running import loop
from streamem.running.memory import MIB, Budget, read_bytes
from streamem.sources import ReadOptions

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning"),
]

Array = NDArray[Any]
KEPT = "streamem.running.memory.KEPT_BYTES"
SETTINGS: dict[str, Any] = {"covariance_type": "diag", "max_iter": 12, "tol": 0.0, "random_state": 0}
EACH_PASS = "since each pass reads 31.25 kiB, more than the 1.00 kiB that may be kept"


def numbers() -> Array:
    rng = np.random.default_rng(0)
    return rng.normal(size=(2000, 2)) + 3.0 * rng.integers(0, 3, (2000, 1))


def chosen(model: Any) -> str:
    return str(model.report_.setting["algorithm"])


def bits(model: Any) -> bytes:
    return bytes(model.means_.tobytes() + model.weights_.tobytes())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(file, numbers())
    return file


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to nothing is kept from pass to pass, and 40 mini-batches are enough."""
    monkeypatch.setattr(KEPT, 1024)
    monkeypatch.setattr("streamem.algorithms.auto.FEWEST_STEPS", 40)


def stored(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A file of the rows of an estimator, and how they belong together."""
    data = rows(name)
    if isinstance(data, pa.Table):
        pq.write_table(data, folder / "x.parquet")
        return folder / "x.parquet", {}
    grouped = isinstance(data, list)
    np.save(folder / "x.npy", np.concatenate(data) if grouped else data)
    return folder / "x.npy", {"lengths": [len(group) for group in data]} if grouped else response(name)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows have no mini-batches; the kinds of passes tell EM from what is faster."""
    model, (file, lengths) = ESTIMATORS[name], stored(name, tmp_path)
    few = {model.structure.iterations: 2, **({"compress": True} if hasattr(model, "compress") else {})}
    small = unfitted(model).set_params(**few).fit(file, **lengths)
    named = unfitted(model).set_params(**few).fit(file, algorithm="batch", **lengths)
    assert chosen(small).startswith("batch, since ")
    assert small.lower_bound_ == named.lower_bound_
    assert "algorithm" not in named.report_.setting
    monkeypatch.setattr(KEPT, 100)
    large = unfitted(model).set_params(**few).fit(file, **lengths)
    if hasattr(model, "compress"):
        assert chosen(large) == "batch, since all rows are in memory"  # different rows with weights
    elif name in ("MixtureProportions", "DawidSkene", "FactorAnalysis", "PPCA"):
        assert chosen(large).startswith("anderson, since each pass reads")
        assert chosen(large).endswith("; no mini-batches, since nothing is drawn for the start")
    else:
        assert chosen(large).startswith("auto, since each pass reads")
        assert {record.kind for record in large.report_.passes} >= {"plain"}


def test_arrays_keep_the_numbers_of_scikit_learn_whatever_their_size(little: None) -> None:
    x = numbers()
    plain = GaussianMixture(3, **SETTINGS).fit(x, algorithm="batch")
    for data in (x, np.asfortranarray(x)):
        found = GaussianMixture(3, **SETTINGS).fit(data)
        assert chosen(found) == "batch, since all rows are in memory"
        assert bits(found) == bits(plain)
    weighed = GaussianMixture(3, **SETTINGS).fit(x, sample_weight=np.ones(len(x)))
    assert chosen(weighed).startswith("batch")


def test_large_data_have_mini_batches_and_the_report_says_so(path: Path, little: None) -> None:
    found = GaussianMixture(3, **SETTINGS).fit(path)
    assert bits(found) == bits(GaussianMixture(3, **SETTINGS).fit(path, algorithm="auto"))
    assert [record.kind for record in found.report_.passes][:3] == ["plain", "stepwise", "stepwise"]
    assert f"algorithm auto, {EACH_PASS}" in str(found.report_)


def test_the_limit_of_the_user_counts_and_not_the_machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Budget.of("8MiB").kept_by_rule == 4 * MIB
    assert Budget.of(None).kept_by_rule == 96 * MIB
    monkeypatch.setattr("streamem.running.memory.free_memory", lambda: pytest.fail("the machine is asked"))
    assert Budget.of(None).kept_by_rule == 96 * MIB
    assert read_bytes(open_source(path).chunks()) == 8 * numbers().size


def test_what_the_limit_has_no_room_for_is_not_chosen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mini-batches, or remembered statistics, would be refused, a fit that named nothing goes on without."""
    x = np.random.default_rng(0).normal(size=(3000, 40))
    np.save(path.with_name("wide.npy"), x)
    settings: dict[str, Any] = {"max_iter": 1, "random_state": 0, "init_params": "random_from_data", "n_threads": 1}
    monkeypatch.setattr(Budget, "kept_by_rule", 1024)
    words = []
    for limit in range(3, 16):
        model = GaussianMixture(24, memory_limit=f"{limit}MiB", **settings)
        try:
            model.fit(path.with_name("wide.npy"), algorithm="batch")
        except MemoryLimitError:
            continue
        words.append(chosen(model.fit(path.with_name("wide.npy"))).partition(",")[0])
    assert words[0] == "batch"
    assert words[-1] == "auto"


def test_given_starts_and_warm_ones_have_no_mini_batches(path: Path, little: None) -> None:
    means, spread = np.array([[0.0, 0.0], [3.0, 3.0], [6.0, 6.0]]), np.ones((3, 2))
    given = GaussianMixture(3, means_init=means, weights_init=np.full(3, 1 / 3), precisions_init=spread, **SETTINGS)
    assert chosen(given.fit(path)) == f"anderson, {EACH_PASS}; no mini-batches, since nothing is drawn for the start"
    warm = GaussianMixture(3, warm_start=True, **SETTINGS).fit(path)
    assert chosen(warm).startswith("auto")
    before = warm.lower_bound_
    assert chosen(warm.fit(path)).endswith("no mini-batches, since it goes on from a fit")
    assert warm.lower_bound_ >= before - 1e-12


def test_row_groups_in_parts_are_read_in_their_order(tmp_path: Path, little: None) -> None:
    """Mini-batches from parts would decode each row group again and again; whole ones may exceed the memory limit."""
    x = numbers()
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1]}), tmp_path / "x.parquet")
    large = GaussianMixture(3, chunk_bytes=4096, **SETTINGS).fit(tmp_path / "x.parquet", sample_weight=np.ones(len(x)))
    assert chosen(large).startswith("anderson")
    assert chosen(large).endswith("no mini-batches, since row groups are decoded in parts, in their order")


def test_a_stopped_fit_goes_on_with_its_algorithm(
    path: Path, tmp_path: Path, little: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten iterations are five, saved, loaded, and five: also where the fit that goes on would choose another one."""
    for name in ("auto", "batch", "squarem"):
        whole = GaussianMixture(3, **SETTINGS).fit(path, algorithm=name)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "require_unchanged", stops_after(5))
            with pytest.raises(Stop):
                GaussianMixture(3, **SETTINGS).fit(path, algorithm=name, checkpoint=tmp_path / f"{name}.npz")
        resumed = GaussianMixture(3, **SETTINGS).fit(path, checkpoint=tmp_path / f"{name}.npz")
        assert bits(resumed) == bits(whole)
        assert chosen(resumed) == f"{name}, as in the checkpoint"


def test_starts_sweeps_chains_and_the_command_line(path: Path, tmp_path: Path, little: None) -> None:
    several = GaussianMixture(3, n_init=2, **SETTINGS).fit(path)
    assert chosen(several).startswith("auto")
    found = select(GaussianMixture(**SETTINGS), path, n_components=[1, 3])
    named = select(GaussianMixture(**SETTINGS), path, n_components=[1, 3], algorithm="anderson")
    assert (
        chosen(found.estimators_[0])
        == f"anderson, {EACH_PASS}; no mini-batches, since fits of a sweep share their reads"
    )
    assert found.scores_.tolist() == named.scores_.tolist()
    source = open_source(path, options=ReadOptions(chunk_bytes=8192))
    chain = GaussianHMM(2, n_iter=4, random_state=0, startprob_prior=2.0).fit(source, lengths=[40] * 50)
    assert {record.kind for record in chain.report_.passes} >= {"stepwise"}
    words = [
        "fit",
        "gmm",
        str(path),
        "-k",
        "3",
        "--covariance-type",
        "diag",
        "-o",
        str(tmp_path / "m.npz"),
        "--seed",
        "0",
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert chosen(GaussianMixture.load(tmp_path / "m.npz")).startswith("auto")
