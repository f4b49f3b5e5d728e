"""What notebooks show of estimators, reports and families."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
import sklearn

from streamem import Categorical, Gaussian, GaussianHMM, GaussianMixture, Mixture, Poisson, Product, select

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(90, 2)) + 6.0 * (np.arange(90)[:, None] % 3 == 0)
X_TABLE = pa.table(dict(zip(["<b>a</b>", "b"], X.T, strict=True)))


def fitted() -> GaussianMixture:
    return GaussianMixture(2, random_state=0, max_iter=30, tol=0).fit(X_TABLE)


def test_a_fitted_mixture_is_a_table_with_bars_and_escaped_names() -> None:
    gm = fitted()
    shown = gm._repr_html_()
    ElementTree.fromstring(shown)  # every tag is closed
    assert "&lt;b&gt;a&lt;/b&gt;" in shown
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%'></span>", shown.split("<details>")[0])]
    np.testing.assert_allclose(widths, np.sort(gm.weights_)[::-1] / gm.weights_.max() * 100, rtol=1e-2)
    assert "report of the fit" in shown
    assert gm._repr_mimebundle_()["text/html"] == shown


def test_many_passes_are_shown_by_their_ends() -> None:
    report = fitted().report_
    shown = report._repr_html_()
    ElementTree.fromstring(f"<div>{shown}</div>")
    assert f"… {len(report.passes) - 20} more" in shown
    assert shown.count("<tr>") == 1 + 10 + 1 + 10
    assert report.describe() == str(report)


def test_states_stand_in_their_order() -> None:
    shown = GaussianHMM(2, random_state=0, n_iter=2).fit(X)._repr_html_()
    assert shown.index(">0</td>") < shown.index(">1</td>")
    assert "emissions" in shown


def test_what_is_not_fitted_is_scikit_learns_diagram() -> None:
    assert "sk-top-container" in GaussianMixture()._repr_html_()
    with sklearn.config_context(display="text"):
        assert not hasattr(fitted(), "_repr_html_")


def test_hyperparameters_changed_since_are_told() -> None:
    gm = fitted().set_params(n_components=3)
    assert "set these back to what was fitted, or fit anew" in gm._repr_html_()


def test_families_are_shown_as_they_are_written() -> None:
    assert repr(Gaussian("diag")) == "Gaussian(covariance_type='diag')"
    family = Product({"a": Poisson(), ("b", "c"): Categorical(n_categories=[2, 3])})
    assert repr(family) == "Product({'a': Poisson(), ('b', 'c'): Categorical(n_categories=(2, 3))})"
    assert repr(Mixture(Poisson(), 2)) == "Mixture(family=Poisson(), n_components=2)"


def test_what_is_found_describes_itself() -> None:
    found = select(GaussianMixture(random_state=0), X, n_components=[1, 2])
    assert repr(found) == str(found) == found.describe()
    summary, diagnosis = fitted().summary(X_TABLE), fitted().diagnose(X_TABLE)
    assert summary.describe() == str(summary)
    assert diagnosis.describe() == str(diagnosis)


def test_seconds_of_short_passes_have_three_digits() -> None:
    """Beside a first pass that compiled."""
    report = GaussianMixture(2, random_state=0).fit(np.arange(20.0)[:, None]).report_
    first = report.passes[0]
    report.passes[:] = [replace(first, seconds=seconds) for seconds in (49.764, 0.00412, 0.0, 2e-5)]
    for told in (str(report), report._repr_html_()):
        assert all(seconds in told for seconds in ("49.76", "0.00412", "0.000020", "0.000000"))


def test_components_of_mixed_columns_are_told_without_marks_that_say_nothing() -> None:
    family = Product({0: Poisson(), 1: Categorical()})
    told = Mixture(family, 2, random_state=0).fit(np.arange(40).reshape(20, 2) % 3).describe()
    assert "x0.rates" in told
    assert "x1.probabilities" in told
    assert not any(word in told for word in ("empty", "starts"))
