"""Responses that lie apart or say too little: labels that are numbers, categories without rows, no rows at all."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pyarrow as pa
import pytest
import zarr

from streamem import GaussianHMM, GroupedMixture, MixtureOfRegressions
from streamem.core.errors import DataError, DegenerateDataError, SchemaError
from streamem.running.reached import NoMaximumWarning

N = 90
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
CODES = np.digitize(X[:, 0] + RNG.normal(size=N), [-0.5, 0.5])


def multinomial(**settings: object) -> MixtureOfRegressions:
    return MixtureOfRegressions(1, "multinomial", **settings)


def test_stored_and_lazy_responses_are_read_by_the_labels_of_the_fit(tmp_path: Path) -> None:
    labels = CODES + 1
    found = multinomial().fit(X, labels)
    assert found.classes_.tolist() == [1, 2, 3]
    measured = multinomial().fit(X, labels.astype(np.float32))
    assert measured.classes_.dtype.kind == "i"  # labels that are whole are told as such, whatever held them
    np.testing.assert_array_equal(measured.predict_class(X), found.predict_class(X))
    np.save(tmp_path / "y.npy", labels)
    z = zarr.create_array(store=str(tmp_path / "y.zarr"), shape=(N,), chunks=(20,), dtype="i8")
    z[:] = labels
    known = found.score_samples(X, labels)
    for stored in (str(tmp_path / "y.npy"), z, da.from_array(labels, chunks=25)):
        np.testing.assert_array_equal(np.asarray(found.score_samples(X, stored)), known)
    few = labels < 3  # of which codes 1 and 2 would be labels 2 and 3
    np.save(tmp_path / "few.npy", labels[few])
    np.testing.assert_array_equal(np.asarray(found.score_samples(X[few], str(tmp_path / "few.npy"))), known[few])
    np.save(tmp_path / "new.npy", np.where(np.arange(N) == 7, 4, labels))
    with pytest.raises(DataError, match=r"y holds 4 in row 7, which the fit did not know; it knows \['1', '2', '3'\]"):
        found.score(X, str(tmp_path / "new.npy"))


def test_a_category_that_no_row_has_is_named(tmp_path: Path) -> None:
    gap = np.where(CODES == 1, 3, CODES)
    np.save(tmp_path / "y.npy", gap)
    table = pa.table({"a": X[:, 0], "y": gap})
    for x, y in ((X, str(tmp_path / "y.npy")), (table, "y"), (X, da.from_array(gap, chunks=40))):
        with pytest.raises(DegenerateDataError, match="categories go up to 3, and no row has 1,.*tell n_classes"):
            multinomial().fit(x, y)
    weight = (CODES != 1).astype(float)
    with pytest.raises(DegenerateDataError, match="no row has 1"):
        multinomial().fit(table, "y", sample_weight=weight)
    assert multinomial().fit(X, gap).coef_.shape == (1, 2, 2)  # labels in memory need no codes
    assert multinomial(n_classes=4).fit(table, "y").coef_.shape == (1, 3, 1)


@pytest.mark.filterwarnings("ignore:Best performing")
def test_a_fit_that_has_not_converged_tells_of_separation_too() -> None:
    steep = MixtureOfRegressions(1, "binomial", max_iter=25, tol=0.0)
    with pytest.warns(NoMaximumWarning, match="coefficients have grown as long as the fit went on"):
        steep.fit([[-3.0], [-2.0], [2.0], [3.0]] * 5, [0, 0, 1, 1] * 5)
    assert not steep.converged_


def test_no_rows_are_refused_with_words_whatever_the_structure_depends_on() -> None:
    found = multinomial().fit(X, CODES)
    for call in (lambda: multinomial().fit(X[:0], CODES[:0]), lambda: found.predict_proba(X[:0])):
        with pytest.raises(DataError, match=r"0 sample\(s\)"):
            call()
    for kind in (MixtureOfRegressions, GroupedMixture):
        bare = kind.__new__(kind)  # as scikit-learn's checks of empty arrays make them, to look for attributes
        assert not hasattr(bare, "feature_names_in_")


def test_text_as_a_response_that_is_measured_or_counted_is_named() -> None:
    table = pa.table({"a": X[:, 0], "y": np.array(["no", "yes", "so"])[CODES]})
    for family, needed in (
        ("gaussian", "gaussian responses are numbers"),
        ("poisson", "poisson responses are numbers"),
    ):
        with pytest.raises(SchemaError, match=f"column 'y' holds no numbers, and {needed}; labels are for family="):
            MixtureOfRegressions(1, family).fit(table, "y")
    with pytest.raises(SchemaError, match="binomial responses of several trials are numbers"):
        MixtureOfRegressions(1, "binomial", trials=3).fit(table, "y")


def test_the_headline_counts_covariates_alone() -> None:
    exposed = np.column_stack([X, np.exp(X[:, 1])])
    found = MixtureOfRegressions(1, "poisson", exposure=2).fit(exposed, CODES)
    assert "poisson responses to 2 covariates" in str(found.summary(exposed, CODES))


@pytest.mark.filterwarnings("ignore:Best performing")
def test_the_only_covariate_may_be_a_concomitant_too() -> None:
    y = np.where(CODES > 0, 2.0 * X[:, 0], -1.0) + 0.3 * X[:, 1]
    settings = {"random_state": 0, "max_iter": 5, "tol": 0.0, "init_params": "kmeans"}
    both = MixtureOfRegressions(2, concomitant=["a"], **settings)
    found = both.fit(pa.table({"a": X[:, 0], "y": y}), "y", columns=["a"])
    assert found.coef_.shape == found.concomitant_coef_.shape == (2, 1)
    twice = MixtureOfRegressions(2, concomitant=[1], **settings).fit(X[:, [0, 0]], y)
    np.testing.assert_array_equal(found.coef_, twice.coef_)
    with pytest.raises(SchemaError, match="a response needs a covariate"):
        MixtureOfRegressions(2, concomitant=[0], **settings).fit(X[:, :1], y)


def test_rows_of_weight_zero_do_not_make_a_column_vary() -> None:
    weight = (np.arange(N) % 3 > 0).astype(float)
    z = np.where(weight > 0, 2.0, X[:, 1])
    with pytest.raises(DegenerateDataError, match="covariate 1 of the weights is 2 in every row"):
        MixtureOfRegressions(2, concomitant=[1]).fit(np.column_stack([X[:, 0], z]), X[:, 1], sample_weight=weight)
    driven = GaussianHMM(2, transition_covariates=[1], random_state=0)
    rows = np.column_stack([X[:, 0], np.where(np.arange(N) < 60, 2.0, X[:, 1])])
    with pytest.raises(DegenerateDataError, match="covariate 0 of the transitions is 2 in every step"):
        driven.fit(rows, lengths=[60, 30], sample_weight=[1.0, 0.0])
