"""A user's own model obeys the laws of every model; what its functions return is checked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.users_model import Censored, blend, censored_rows, two_clusters
from streamem import Params
from streamem.conformance import ModelSuite
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError, StreamemError
from streamem.models import OwnModel


class TestGaussianBlend(ModelSuite):
    def make_model(self) -> OwnModel:
        return OwnModel(blend())

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        return Chunk(two_clusters()[:n])


def mean_model(**changed: Any) -> SimpleNamespace:
    """Rows of one number, normal with variance 1; functions as they are, but for those that are `changed`."""

    def e_step(p: Any, chunk: Any) -> dict[str, Any]:
        x, w = chunk.x[:, 0], chunk.weight
        return {"x": w @ x, "log_likelihood": -0.5 * w @ (x - p["mean"]) ** 2}

    functions = {
        "init": lambda sample, rng: {"mean": 0.0},
        "e_step": e_step,
        "m_step": lambda s, previous: {"mean": s["x"] / s["weight"]},
    }
    return SimpleNamespace(**{**functions, **changed})


ROWS = np.arange(6.0)[:, None]


def run(model: Any, chunk: Chunk | None = None) -> Params:
    """A start, an E-step and an M-step."""
    own, chunk = OwnModel(model), chunk or Chunk(ROWS)
    params = own.init(chunk, np.random.RandomState(0))
    return own.m_step(own.e_step(params, chunk), params)


def test_a_step_of_plain_functions() -> None:
    assert float(run(mean_model()).components["mean"]) == 2.5


LIARS: dict[str, tuple[dict[str, Any], type[StreamemError], str]] = {
    "init gives nothing": ({"init": lambda s, r: None}, ParameterError, r"init of SimpleNamespace returned None \(is "),
    "init gives a list": ({"init": lambda s, r: [1.0]}, ParameterError, "returned a list; a dict of names"),
    "init gives an empty dict": ({"init": lambda s, r: {}}, ParameterError, "empty dict"),
    "init gives text": ({"init": lambda s, r: {"mean": "x"}}, ParameterError, "'mean', a str; a number"),
    "init gives NaN": ({"init": lambda s, r: {"mean": np.nan}}, NumericalError, "'mean' with 1 of 1 numbers not"),
    "init gives ragged lists": ({"init": lambda s, r: {"mean": [[1], [1, 2]]}}, ParameterError, "no array of numbers"),
    "a name with a dot": ({"init": lambda s, r: {"a.b": 1.0}}, ParameterError, r"the name 'a\.b'"),
    "no log-likelihood": ({"e_step": lambda p, c: {"x": 1.0}}, ParameterError, "and no 'log_likelihood': add the sum"),
    "a log-likelihood for each row": (
        {"e_step": lambda p, c: {"log_likelihood": c.x[:, 0]}},
        ParameterError,
        r"log_likelihood of shape \(6,\); one number",
    ),
    "an impossible row": (
        {"e_step": lambda p, c: {"x": 0.0, "log_likelihood": -np.inf}},
        NumericalError,
        "log_likelihood -inf: some row is impossible",
    ),
    "statistics that are not finite": (
        {"e_step": lambda p, c: {"x": [0.0, np.inf], "log_likelihood": 0.0}},
        NumericalError,
        r"e_step of SimpleNamespace returned 'x' with 1 of 2 numbers not finite",
    ),
    "other names than init": ({"m_step": lambda s, p: {"mu": 0.0}}, ParameterError, "returned mu, where mean came"),
    "other shapes than init": (
        {"m_step": lambda s, p: {"mean": [0.0]}},
        ParameterError,
        r"m_step of .* returned 'mean' of shape \(1,\), where it was \(\) before",
    ),
    "missing is a boolean": ({"missing": True}, ParameterError, 'missing of SimpleNamespace is True; "values" says'),
    "row_bytes is a text": ({"row_bytes": "1MB"}, ParameterError, "row_bytes of SimpleNamespace is '1MB'"),
}


@pytest.mark.parametrize("lie", LIARS)
def test_messages_name_the_function(lie: str) -> None:
    changed, kind, words = LIARS[lie]
    with pytest.raises(kind, match=words):
        run(mean_model(**changed))


def test_shapes_that_follow_the_rows_are_found() -> None:
    """Sums of shapes that change from chunk to chunk would broadcast, and be wrong without a word."""
    model = OwnModel(mean_model(e_step=lambda p, c: {"x": c.x[:, 0], "log_likelihood": 0.0}))
    params = Params(components=Params(mean=0.0))
    model.e_step(params, Chunk(ROWS))
    with pytest.raises(
        ParameterError, match=r"'x' of shape \(1,\), where it was \(6,\) before: shapes must depend nei"
    ):
        model.e_step(params, Chunk(ROWS[:1]))


def test_the_users_error_says_where_it_was() -> None:
    def e_step(p: Any, chunk: Any) -> Any:
        raise KeyError("sigma")

    with pytest.raises(KeyError) as caught:
        run(mean_model(e_step=e_step))
    assert caught.value.__notes__ == ["in e_step of SimpleNamespace, a model of your own"]


def test_weights_that_nobody_reads_are_refused() -> None:
    def deaf(p: Any, chunk: Any) -> dict[str, Any]:
        x = chunk.x[:, 0]
        return {"x": x.sum(), "log_likelihood": chunk.weight @ -((x - p["mean"]) ** 2) / 2}

    assert float(run(mean_model(e_step=deaf)).components["mean"]) == 2.5
    with pytest.raises(ParameterError, match="does not multiply what a row adds .* 'x' is not twice as large"):
        run(mean_model(e_step=deaf), Chunk(ROWS, np.ones(6)))


def test_nothing_that_is_given_can_be_changed() -> None:
    seen = []

    def m_step(s: Any, previous: Any) -> dict[str, Any]:
        seen.append((s["x"], previous["mean"]))
        return {"mean": previous["mean"] + 1.0}

    sums = lambda p, c: {"x": c.x.sum(axis=0), "log_likelihood": 0.0}  # noqa: E731
    run(mean_model(init=lambda s, r: {"mean": np.zeros(1)}, m_step=m_step, e_step=sums))
    for value in seen[0]:
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 9.0


def test_rows_come_in_blocks_of_bounded_size() -> None:
    """However large the chunk; the sum is that of the whole."""
    sizes = []
    base = mean_model()

    def e_step(p: Any, chunk: Any) -> Any:
        sizes.append(len(chunk.x))
        return base.e_step(p, chunk)

    model = OwnModel(mean_model(e_step=e_step, row_bytes=2**16))
    x = np.random.default_rng(0).normal(size=(1000, 1))
    found = model.e_step(Params(components=Params(mean=0.5)), Chunk(x))
    assert sizes == [256, 256, 256, 232]
    assert model.block_rows(1) == 256
    np.testing.assert_allclose(found.own["x"], x.sum(), rtol=1e-12)
    assert float(found.rows) == 1000


def test_rows_cannot_be_written_to() -> None:
    def e_step(p: Any, chunk: Any) -> Any:
        chunk.x[:] = 0.0

    with pytest.raises(ValueError, match="read-only"):
        run(mean_model(e_step=e_step))


def test_rows_are_float64_and_know_their_names() -> None:
    seen = []
    model = OwnModel(mean_model(init=lambda sample, rng: seen.append(sample) or {"mean": 0.0}), ("dose",))
    model.init(Chunk(ROWS.astype(np.float32)), np.random.RandomState(0))
    assert seen[0].x.dtype == np.float64
    assert seen[0].names == ("dose",)
    assert seen[0].weight.tolist() == [1.0] * 6


def test_missing_values_are_the_models_to_declare() -> None:
    params = run(Censored(missing="values"), Chunk(censored_rows(holes=True)))
    assert np.isfinite(params.components["mean"])
    assert OwnModel(Censored(missing="values")).missing.value == "values"
    assert OwnModel(Censored()).missing.value == "undeclared"


@pytest.mark.parametrize("broken", [SimpleNamespace(init=abs), Censored])
def test_what_is_no_model_is_refused(broken: Any) -> None:
    with pytest.raises(ParameterError, match=r"has no e_step, m_step; a model needs init|the class Censored; pass an"):
        OwnModel(broken)
