"""Models, checkpoints and statistics that an earlier version wrote, under `files/`, and what a later one makes of them.

They are kept as they were written, but for gzip. A file that is there is never written again: `golden.make` writes
those of cases that have none.
"""

from __future__ import annotations

import gzip
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from sklearn.exceptions import ConvergenceWarning

from golden.cases import CASES, OwnPoisson, gmm, mix
from golden.data_sets import DataSet, data_set
from golden.results import digest, parameters, progress, result
from streamem import SharedStats
from streamem.algorithms import IncrementalEM, StepwiseEM

FOLDER = Path(__file__).with_name("files")

WRITTEN_ON = "; znver3, "
"""The processor, in the words of `recording.machine`."""

MODEL, RUN, SITES = "model.npz", "run.npz", ("north.npz", "south.npz")

MODELS = (
    "GaussianMixture: full, float64",
    "GaussianMixture: tied, float32",
    "GaussianMixture: diag, stepwise, float32",
    "GaussianMixture: spherical, incremental, float32",
    "GaussianMixture: partial_fit after fit",
    "GaussianMixture: full, fit_stream",
    "GaussianMixture: given start",
    "GaussianMixture: tight, full, float64",
    "Mixture: Poisson",
    "Mixture: Bernoulli",
    "Mixture: Categorical",
    "Mixture: AutoregressiveGaussian",
    "Mixture: MixtureFamily, full",
    "Mixture: own family",
    "HMM: Gaussian, full",
    "HMM: Gaussian, tied",
    "HMM: Gaussian, priors",
    "HMM: Gaussian, endless",
    "HMM: Gaussians' mixtures, diag",
    "HMM: Gaussians' mixtures, tied, gaps",
    "HMM: Categorical",
    "HMM: Poisson, prior",
    "HMM: Bernoulli",
    "HMM: AutoregressiveGaussian",
    "HMM: own family",
)


class FileCase(Protocol):
    """How the files of a case were written, and the result that comes of reading them."""

    def write(self, folder: Path) -> None:
        """Write them, in a folder of their own."""

    def read(self, folder: Path) -> dict[str, Any]:
        """The result; the files may be overwritten."""


def kept(name: str) -> Path:
    """The folder in which the files of a case are kept."""
    return FOLDER / re.sub(r"[^a-z0-9]+", "-", name.lower())


def unpack(name: str, folder: Path) -> Path:
    """Put the files of a case, as they were written, into `folder`."""
    for packed in kept(name).iterdir():
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def result_of(name: str) -> dict[str, Any]:
    """What comes of reading the files of a case."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return FILE_CASES[name].read(unpack(name, Path(folder)))


def write_missing() -> list[str]:
    """Write the files of cases that have none, and say which."""
    missing = [name for name in FILE_CASES if not kept(name).exists()]
    for name in missing:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            FILE_CASES[name].write(Path(folder))
            kept(name).mkdir(parents=True)
            for path in Path(folder).glob("[!.]*.npz"):  # no locks, no older generations
                (kept(name) / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return missing


# --- models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelFile:
    """The model of a case. It says what it said, and learns from another batch what it would have learned."""

    case: str

    def write(self, folder: Path) -> None:
        """Fit, and save."""
        CASES[self.case].run()[0].save(folder / MODEL)

    def load(self, folder: Path) -> tuple[Any, DataSet]:
        """The model, and the data about which it is asked."""
        fresh, case = CASES[self.case].estimator(), CASES[self.case]
        objects = {"family": fresh.family} if hasattr(fresh, "family") else {}
        return type(fresh).load(folder / MODEL, **objects), data_set(case.data, case.dtype)

    def read(self, folder: Path) -> dict[str, Any]:
        """What the model says, and what it has become after another batch."""
        model, data = self.load(folder)
        said = result(model, data)
        if "lengths" in data.options:
            model.partial_fit(data.x[:400], data.options["lengths"][:1])
        elif hasattr(model, "transmat_"):
            model.partial_fit(data.x[:400], continued=True)
        else:
            model.partial_fit(data.x[:400])
        said["bits"]["goes on"] = digest(parameters(model) | progress(model))
        return said


# --- checkpoints -----------------------------------------------------------------------------------------------------

Learn = Callable[[Any, DataSet, Path], object]


def fit(estimator: Any, data: DataSet, path: Path, **options: Any) -> None:
    """`fit` with a checkpoint."""
    estimator.fit(data.x, **data.options, **options, checkpoint=path)


def stream(estimator: Any, data: DataSet, path: Path, **options: Any) -> None:
    """`fit_stream` with a checkpoint, which holds positions too."""
    batches = [data.x[start : start + 100] for start in range(0, len(data.x), 100)]
    estimator.fit_stream(batches, batch_rows=150, checkpoint=path, **options)


@dataclass(frozen=True)
class CheckpointFile:
    """A fit that was left in the middle by `first`, and goes on to its end as `whole`."""

    data: str
    first: Callable[[], Any]
    whole: Callable[[], Any]
    learn: Learn = fit
    learn_first: Learn | None = None

    def write(self, folder: Path) -> None:
        """Leave a fit in the middle."""
        with suppress(InterruptedError):
            (self.learn_first or self.learn)(self.first(), data_set(self.data), folder / RUN)

    def read(self, folder: Path) -> dict[str, Any]:
        """The end of the fit."""
        estimator, data = self.whole(), data_set(self.data)
        self.learn(estimator, data, folder / RUN)
        return result(estimator, data)


def failing_after(densities: int) -> OwnPoisson:
    """A family that fails when it has given so many densities, under the name of the one that does not."""
    left = iter(range(densities))

    def log_prob(self: Any, p: Any, x: Any) -> Any:
        if next(left, None) is None:
            raise InterruptedError(f"{densities} densities were given")
        return OwnPoisson.log_prob(self, p, x)

    made: OwnPoisson = type("OwnPoisson", (OwnPoisson,), {"log_prob": log_prob})()
    return made


def _left(case: str, learn: Learn = fit, **settings: Any) -> CheckpointFile:
    """The fit of a case, left after fewer iterations."""
    whole = CASES[case].estimator
    return CheckpointFile(CASES[case].data, lambda: whole().set_params(**settings), whole, learn)


def _failed(densities: int, learn: Learn = fit, **settings: Any) -> CheckpointFile:
    """A mixture of the user's own family that failed."""
    one_thread = {"n_threads": 1, "init_params": "random", **settings}
    first, whole = mix(lambda: failing_after(densities), 3, **one_thread), mix(OwnPoisson, 3, **one_thread)
    return CheckpointFile("counts", first, whole, learn)


# --- statistics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StatisticsFiles:
    """Expected statistics of two sites under a model that lies beside them; together they make the next model."""

    case: str

    def write(self, folder: Path) -> None:
        """The model, and the statistics of either site."""
        model, data = CASES[self.case].run()
        model.save(folder / MODEL)
        for site, rows in zip(SITES, (data.x[:400], data.x[401:751]), strict=True):
            options = {"lengths": [len(rows)]} if data.options else {}
            model.expected_statistics(rows, **options).save(folder / site)

    def read(self, folder: Path) -> dict[str, Any]:
        """The model after its M-step with the sum of both."""
        model, data = ModelFile(self.case).load(folder)
        model.maximize(sum(SharedStats.load(folder / site) for site in SITES))
        return result(model, data)


FILE_CASES: dict[str, FileCase] = {
    **{f"model, {case}": ModelFile(case) for case in MODELS},
    "checkpoint, batch": _left("GaussianMixture: full, float64", max_iter=3),
    "checkpoint, incremental": _failed(25, partial(fit, algorithm=IncrementalEM(blocks=5, max_iter=4))),
    "checkpoint, chain": _left("HMM: Gaussian, full, gaps", n_iter=3),
    "checkpoint, chain of Gaussians' mixtures": _left("HMM: Gaussians' mixtures, diag", n_iter=2),
    "checkpoint, second of two starts": _failed(75, n_init=2),
    "checkpoint, stepwise": _failed(45, partial(fit, algorithm=StepwiseEM(passes=4, batch_rows=100))),
    "checkpoint, stream": CheckpointFile("overlapping", gmm(3), gmm(3), stream, partial(stream, until=700)),
    "statistics, mixture": StatisticsFiles("GaussianMixture: full, float64"),
    "statistics, tight mixture": StatisticsFiles("GaussianMixture: tight, full, float64"),
    "statistics, chain": StatisticsFiles("HMM: Gaussian, diag"),
}
