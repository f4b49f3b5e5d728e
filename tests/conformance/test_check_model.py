"""`check_model` passes models that are right, and names the mistake of each liar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.users_model import Censored, Center, Scored, blend, censored_rows, two_clusters
from streamem.conformance import check_model
from streamem.conformance.own_models import LAWS
from streamem.core.errors import ParameterError

X = censored_rows(300)
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2.0, 300)


class WithQ(Censored):
    """Says its expected complete-data log-likelihood, too."""

    def q(self, p: Any, s: Any) -> float:
        spread = s["xx"] - 2 * p["mean"] * s["x"] + p["mean"] ** 2 * s["n"]
        return float(-0.5 * (s["n"] * np.log(2 * np.pi * p["var"]) + spread / p["var"]))


def test_models_that_are_right_obey_every_law() -> None:
    """Between them, these have all that laws are about."""
    held = {
        law
        for model, x in (
            (blend(), two_clusters(300)),
            (WithQ(), X),
            (Scored(), X),
            (Censored(missing="values"), censored_rows(300, holes=True)),
            (Center(), two_clusters(300)),
        )
        for law in check_model(model, x)
    }
    assert held == LAWS.keys()
    assert "EM ends at a maximum" in check_model(WithQ(), X, weight=WEIGHTS)


def e_step(change: Any) -> Any:
    """A model whose E-step returns something else: `change` gets what it should return, the parameters and the rows."""

    class Liar(Censored):
        def e_step(self, p: Any, chunk: Any) -> Any:
            return change(super().e_step(p, chunk), p, chunk)

    return Liar()


def m_step(change: Any) -> Any:
    """A model whose M-step returns something else."""

    class Liar(Censored):
        def m_step(self, s: Any, previous: Any) -> Any:
            return change(super().m_step(s, previous), s, previous)

    return Liar()


def plain_moments(s: Any, p: Any, chunk: Any) -> Any:
    """The second moment forgets the variance of what is hidden."""
    seen = np.minimum(chunk.x[:, 0], 1.0)
    return {**s, "xx": s["xx"] - 0.3 * (chunk.weight @ (seen >= 1.0))}


class Stale(Censored):
    """Tells the log-likelihood of the parameters of the call before."""

    before: Any = None

    def e_step(self, p: Any, chunk: Any) -> Any:
        found = super().e_step(self.before or p, chunk)
        self.before = dict(p)
        return {**super().e_step(p, chunk), "log_likelihood": found["log_likelihood"]}


class Writing(Censored):
    """Sorts the rows where they lie."""

    def e_step(self, p: Any, chunk: Any) -> Any:
        chunk.x[:] = np.sort(chunk.x, axis=0)
        return super().e_step(p, chunk)


class Restless(Censored):
    """Starts from numbers of a generator of its own."""

    drawn = np.random.default_rng(0)

    def init(self, sample: Any, rng: Any) -> Any:
        return {"mean": self.drawn.normal(), "var": 1.0}


class OddScores(Center):
    """Says of rows what e_step does not."""

    def e_step(self, p: Any, chunk: Any) -> Any:
        found = super().e_step(p, chunk)
        return {**found, "log_likelihood": found["log_likelihood"] + chunk.weight.sum()}


class CountsHoles(Censored):
    """Rows without a value add something."""

    def e_step(self, p: Any, chunk: Any) -> Any:
        found = super().e_step(p, chunk)
        return {**found, "log_likelihood": found["log_likelihood"] - chunk.weight[np.isnan(chunk.x[:, 0])].sum()}


class WrongSlopes(Scored):
    """Slopes by the standard deviation instead of the variance."""

    def scores(self, p: Any, chunk: Any) -> Any:
        found = super().scores(p, chunk)
        return {**found, "var": found["var"] * 2 * np.sqrt(p["var"])}


class FlatQ(WithQ):
    """A q without the variance."""

    def q(self, p: Any, s: Any) -> float:
        return -0.5 * float(s["xx"] - 2 * p["mean"] * s["x"] + p["mean"] ** 2 * s["n"])


class LikelihoodWithoutTails(WithQ):
    """A log-likelihood to which rows that are censored add half of what they should."""

    def e_step(self, p: Any, chunk: Any) -> Any:
        found = super().e_step(p, chunk)
        above = chunk.x[:, 0] >= self.limit
        kept = type(chunk)(chunk.x[above], chunk.weight[above])
        return {**found, "log_likelihood": found["log_likelihood"] - 0.5 * super().e_step(p, kept)["log_likelihood"]}


DRAWS = np.random.default_rng(0)
LIARS: dict[str, tuple[Any, str]] = {
    "another start each time": (Restless(), "init of Restless gave two starts"),
    "a log-likelihood of the call before": (Stale(), "keeps something from call to call, such as a log_likelihood"),
    "an e_step that draws": (e_step(lambda s, p, c: {**s, "x": s["x"] + DRAWS.normal()}), "it draws random numbers"),
    "an m_step that draws": (m_step(lambda n, s, p: {**n, "mean": DRAWS.normal()}), "m_step of Liar gave two results"),
    "an e_step that writes": (Writing(), "e_step of Writing wrote into its chunk"),
    "means": (e_step(lambda s, p, c: {**s, "x": s["x"] / len(c.x)}), "'x' is no sum over rows"),
    "a mean log-likelihood": (
        e_step(lambda s, p, c: {**s, "log_likelihood": s["log_likelihood"] / len(c.x)}),
        "'log_likelihood' is no sum over rows",
    ),
    "weights that nobody reads": (
        e_step(lambda s, p, c: {**s, "n": float(len(c.x))}),
        "weights twice as large do not make 'n' twice as large",
    ),
    "rows of weight 0 that count": (
        e_step(lambda s, p, c: {**s, "n": s["n"] + float((c.weight == 0).sum())}),
        "rows of weight 0 change 'n'",
    ),
    "scores of something else": (OddScores(), "one of them lacks a term"),
    "holes that count": (
        CountsHoles(missing="values"),
        "rows in which nothing was observed have the log_likelihood -4",
    ),
    "a number of rows": (m_step(lambda n, s, p: {**n, "mean": s["x"] / 300}), "differs from m_step.stats. in 'mean'"),
    "a log-likelihood without parameters": (
        e_step(lambda s, p, c: {**s, "log_likelihood": -float(c.weight.sum())}),
        "the first step of EM changed the parameters, and log_likelihood stayed",
    ),
    "the wrong sign": (
        e_step(lambda s, p, c: {**s, "log_likelihood": -s["log_likelihood"]}),
        "even a small part of the step lowers it.*has the wrong sign",
    ),
    "a log-likelihood without its constant": (
        e_step(lambda s, p, c: {**s, "log_likelihood": s["log_likelihood"] + 3 * c.weight.sum() * np.log(p["var"])}),
        "lowered the log-likelihood.*lacks a term|ends where the log-likelihood is no maximum",
    ),
    "an m_step that goes too far": (
        m_step(lambda n, s, p: {**n, "mean": p["mean"] + 5 * (n["mean"] - p["mean"])}),
        "lowered the log-likelihood by.*m_step does not maximize: 1/64 of its step raises",
    ),
    "a standard deviation for a variance": (
        m_step(lambda n, s, p: {**n, "var": np.sqrt(n["var"])}),
        "m_step does not maximize|ends where the log-likelihood is no maximum",
    ),
    "a divisor that is a little off": (
        m_step(lambda n, s, p: {**n, "var": n["var"] * 300 / 290}),
        "m_step does not maximize|ends where the log-likelihood is no maximum",
    ),
    "a mean that is not estimated": (
        m_step(lambda n, s, p: {**n, "mean": 0.3 + 0 * n["mean"]}),
        "m_step does not maximize|even a small part|ends where",
    ),
    "moments without the spread of what is hidden": (
        e_step(plain_moments),
        "lowered the log-lik|ends where the log-lik",
    ),
    "slopes by something else": (WrongSlopes(), "along a way on which Σ weight · scores of WrongSlopes say"),
    "a q without a term": (FlatQ(), "q rises by|does not maximize q"),
    "a log-likelihood that q contradicts": (
        LikelihoodWithoutTails(),
        "log_likelihood rises by .* where q rises by|lowered",
    ),
    "no log-likelihood": (e_step(lambda s, p, c: {"x": 1.0}), "no 'log_likelihood'"),
    "an entry a row": (e_step(lambda s, p, c: {**s, "rows": c.x[:, 0]}), "'rows' of shape"),
}


@pytest.mark.parametrize("lie", LIARS)
def test_each_lie_is_named(lie: str) -> None:
    model, words = LIARS[lie]
    x = censored_rows(300, holes=True) if lie == "holes that count" else X
    with pytest.raises(AssertionError, match=words):
        check_model(model, x)


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ParameterError, match="pass an object of it"):
        check_model(Censored, X)
    with pytest.raises(ParameterError, match=r"x has shape \(300,\)"):
        check_model(Censored(), X[:, 0])
