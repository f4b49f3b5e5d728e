"""Text from tables as categories: one vocabulary, kept with the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamem import Categorical, CategoricalHMM, Gaussian, Mixture, MixtureFamily
from streamem.core.errors import DataError, SchemaError

TEXTS = ["amber", "blue", "cyan", "dun"]


def table(n: int = 2_000) -> pa.Table:
    """Two columns of text and the codes that they stand for; sequences of 100 rows."""
    rng = np.random.default_rng(0)
    state = np.arange(n) // 25 % 2
    codes = np.column_stack([np.where(state, rng.integers(0, 3, n), rng.integers(1, 4, n)), rng.integers(0, 2, n)])
    named = {"hue": [TEXTS[c] for c in codes[:, 0]], "size": ["big" if c == 0 else "small" for c in codes[:, 1]]}
    return pa.table({**named, "c0": codes[:, 0], "c1": codes[:, 1], "id": [f"s{i // 100}" for i in range(n)]})


@pytest.fixture
def path(tmp_path: Path) -> str:
    pq.write_table(table(), tmp_path / "x.parquet", row_group_size=300)
    return str(tmp_path / "x.parquet")


def test_a_chain_of_texts_is_one_of_their_codes(path: str, tmp_path: Path) -> None:
    options = {"random_state": 0, "n_iter": 20}
    text = CategoricalHMM(2, **options).fit(path, sequence_column="id", columns=["hue", "size"])
    codes = CategoricalHMM(2, **options).fit(path, sequence_column="id", columns=["c0", "c1"])
    assert text.categories_ == {"hue": TEXTS, "size": ["big", "small"]}
    assert text.transmat_.tobytes() == codes.transmat_.tobytes()
    text.save(tmp_path / "m.npz")
    again = CategoricalHMM.load(tmp_path / "m.npz")
    assert again.categories_ == text.categories_
    assert again.score(path, sequence_column="id") == codes.score(path, sequence_column="id", columns=["c0", "c1"])


def test_later_data_is_read_with_the_vocabulary_that_was_fitted(path: str, tmp_path: Path) -> None:
    mixture = Mixture(Categorical(), 2, random_state=0).fit(path, columns=["hue"])
    mixture.save(tmp_path / "m.npz")
    again = Mixture.load(tmp_path / "m.npz", family=Categorical())
    few = pd.DataFrame({"hue": ["dun", "blue"]})  # whose own vocabulary would be blue 0, dun 1
    whole = pd.DataFrame({"hue": TEXTS})
    np.testing.assert_array_equal(again.score_samples(few), mixture.score_samples(whole)[[3, 1]])
    with pytest.raises(DataError, match="'pink'.*is none of its 4 categories"):
        again.predict(pd.DataFrame({"hue": ["pink"]}))


@pytest.mark.parametrize("family", [Gaussian(), MixtureFamily(Gaussian(), 2)])
def test_text_is_no_number(family: object, path: str) -> None:
    with pytest.raises(SchemaError, match="'hue' \\(string\\)"):
        Mixture(family, 2).fit(path, columns=["hue"])  # type: ignore[arg-type]
