"""fit_stream that ends without a model is an error that says what came; a model from before may learn nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from streamem import GaussianMixture
from streamem.cli.main import main
from streamem.core.errors import DataError, StreamError
from streamem.online.append_only_arrow import read_appended
from streamem.streams.folder import FolderStream

X = np.random.default_rng(0).normal(size=(300, 2))


def model() -> GaussianMixture:
    return GaussianMixture(2, random_state=0)


def spoiled(n: int) -> Any:
    x = X.copy()
    x[:n] = np.nan
    return x


NOTHING: list[tuple[Any, dict[str, Any], str]] = [
    ([], {}, "0 messages with 0 records came; none was learned. Look whether"),
    (iter([]), {}, "0 messages"),
    ([X[:0], X[:0]], {}, "2 messages with 0 records"),
    ([X[:11]], {}, "1 messages with 11 records came; 11 usable rows are kept, and a start of 2 components needs .* 12"),
    (
        [spoiled(9)[:15]],
        {"poison_limit": 1.0},
        "15 records came, of which 9 cannot be used .*bad.arrows.*6 usable rows",
    ),
    ([spoiled(300)], {"poison_limit": 1.0}, "300 records came, of which 300 cannot be used"),
    ([np.full((15, 2), 1e200)], {"poison_limit": 1.0}, "15 records came, of which 15 cannot be used"),
    (
        [pa.table({"a": X[:, 0], "w": 0 * X[:, 0]})],
        {"sample_weight": "w"},
        "300 records came, 300 of weight 0",
    ),
]


@pytest.mark.parametrize(("stream", "settings", "match"), NOTHING)
def test_a_stream_that_makes_no_model_is_an_error(
    stream: Any, settings: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="iterator has ended before there was a model: .*" + match):
        model().fit_stream(stream, dead_letter=tmp_path / "bad.arrows", checkpoint=tmp_path / "live.npz", **settings)
    assert not (tmp_path / "live.npz").exists()


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_rows_of_which_no_start_can_be_made() -> None:
    with pytest.raises(DataError, match="20 usable rows are kept, 1 of them distinct"):
        model().set_params(reg_covar=0.0).fit_stream([np.ones((20, 2))])


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder:.* has ended before there was a model"):
        model().fit_stream(FolderStream(tmp_path, follow=False))


def test_rows_that_were_kept_are_not_lost() -> None:
    gm = model()
    with pytest.raises(DataError, match="11 usable rows are kept"):
        gm.fit_stream([X[:11]])
    gm.fit_stream([X[11:]])
    assert gm.report_.n_rows == len(X)


def test_a_stop_before_there_is_a_model() -> None:
    gm = model()

    def items() -> Iterator[Any]:
        yield X[:5]
        gm.stop()
        yield X[5:]

    with pytest.raises(DataError, match=r"was stopped before there was a model.*none was learned; the same call"):
        gm.fit_stream(items)
    assert gm.fit_stream([X]).report_.n_rows == len(X)


def test_a_fitted_model_may_learn_nothing(tmp_path: Path) -> None:
    files = {"checkpoint": tmp_path / "live.npz", "dead_letter": tmp_path / "bad.arrows"}
    gm = model().fit_stream([X], **files)
    bits = gm.means_.tobytes()
    for stream in ([X], iter([]), [X, np.full((2, 2), np.nan)]):
        assert model().fit_stream(stream, **files).means_.tobytes() == bits
    assert read_appended(files["dead_letter"]).num_rows == 2
    assert gm.fit_stream(iter([])).means_.tobytes() == bits
    with pytest.raises(StreamError, match="ends after 0 items, and 2 of it were learned"):
        model().fit_stream([], **files)


@pytest.mark.parametrize(
    ("lines", "match"),
    [("", "0 messages"), ('{"a": 1, "b": 2}\n' * 5, "5 records came; 5 usable rows"), ("\n\n", "0 records")],
)
def test_the_command_line_fails(lines: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    done = CliRunner().invoke(main, ["update", str(path), "-", "-k", "2"], input=lines)
    assert done.exit_code == 1
    assert match in done.output
    assert not path.exists()
    done = CliRunner().invoke(main, ["watch", str(tmp_path), str(path), "-k", "2", "--once"])
    assert done.exit_code == 1
    assert "before there was a model" in done.output


def test_the_command_line_with_nothing_new_for_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    lines = "".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in X.tolist())
    assert CliRunner().invoke(main, ["update", str(path), "-", "-k", "2"], input=lines).exit_code == 0
    done = CliRunner().invoke(main, ["update", str(path), "-"], input="")
    assert done.exit_code == 0
    assert "nothing new" in done.output
    letters = ["--dead-letter", str(tmp_path / "bad.arrows"), "--poison-limit", "1"]
    done = CliRunner().invoke(main, ["update", str(path), "-", *letters], input='{"a": "x", "b": 1}\n' * 3)
    assert done.exit_code == 0
    assert "3 of 3 records cannot be used" in done.output
    assert "nothing new" in done.output
