"""Jobs that people come with, in as many lines as they should take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamem
from streamem.plots import plot_history

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def done(lines: str, **known: Any) -> dict[str, Any]:
    """The names that the lines leave, run as they stand."""
    names: dict[str, Any] = {"np": np, **{name: getattr(streamem, name) for name in streamem.__all__}, **known}
    exec(lines, names)
    return names


def payments(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """(log amount, hour), and which of them are frauds."""
    x = rng.normal([[3.0, 12.0], [6.0, 19.0]], [0.5, 1.5], size=(rows // 2, 2, 2)).reshape(-1, 2)
    fraud = rng.random(rows) < 0.01
    x[fraud] = rng.uniform([8.5, 0.0], [11.0, 24.0], size=(fraud.sum(), 2))
    return x, fraud


DETECTOR = """
gm = GaussianMixture(2, random_state=0)
gm.fit_stream("payments.jsonl", half_life=5_000, checkpoint="live.npz", dead_letter="bad.arrows")
unusual = np.quantile(gm.score_samples(gm.sample(20_000)[0]), 1 / 2_000)
alarm = GaussianMixture.load("live.npz").score_samples(new) < unusual
"""


def test_a_live_anomaly_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four lines: learn a stream with broken records, save, and say of new rows which are odd."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    honest, fraud = payments(rng, 8_000)
    records = [json.dumps(payment) for payment in honest[~fraud].tolist()]
    records[500:500] = ["[null, 3]", "[2.5]", "broken"]
    Path("payments.jsonl").write_text("\n".join(records) + "\n")
    new, fraud = payments(rng, 4_000)
    assert len(DETECTOR.strip().splitlines()) == 4
    found = done(DETECTOR, new=new)
    alarm = found["alarm"]
    assert fraud.sum() > 20
    assert (alarm & fraud).sum() > 0.9 * fraud.sum()
    assert (alarm & ~fraud).sum() < 10
    with pa.OSFile("bad.arrows") as file, pa.ipc.open_stream(file) as reader:
        assert reader.read_all().num_rows == 3
    assert plot_history(found["gm"])[0].get_title() == f"8 updates, {len(records) - 3:,} rows"


GENES = """
hmm = GaussianHMM(2, random_state=0).fit("tracks.parquet", columns=["signal"], sequence_column="gene")
hmm.predict("tracks.parquet", out="states.parquet", id_columns=["gene", "position"])
"""


def test_states_of_sequences_by_gene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines: which stretches of every gene are open, in a file that can be joined back."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lengths = rng.integers(80, 300, size=30)
    is_open = np.concatenate([(np.arange(n) // 40 + rng.integers(2)) % 2 for n in lengths])
    tracks = {
        "gene": np.repeat([f"G{i:02d}" for i in range(30)], lengths),
        "position": np.concatenate([np.arange(n) for n in lengths]),
        "signal": rng.normal(3.0 * is_open, 1.0),
    }
    pq.write_table(pa.table(tracks), "tracks.parquet", row_group_size=700)  # genes are cut by row groups
    assert len(GENES.strip().splitlines()) == 2
    hmm = done(GENES)["hmm"]
    states = pq.read_table("states.parquet")
    assert {"gene", "position"} < set(states.column_names)
    assert states["gene"].to_pylist() == tracks["gene"].tolist()
    (label,) = set(states.column_names) - {"gene", "position"}
    higher = int(np.argmax(hmm.means_[:, 0]))
    assert (np.asarray(states[label]) == higher).astype(int).tolist() != is_open.tolist()  # steps are noisy
    assert np.mean((np.asarray(states[label]) == higher) == is_open) > 0.97
