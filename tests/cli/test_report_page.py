"""``streamem report`` writes a page for people who were not there; a real browser lays it out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from streamem import GaussianHMM, GaussianMixture, Mixture
from streamem.cli.main import main
from streamem.cli.page import page_of, warnings_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(400, 2)) + 6.0 * (np.arange(400)[:, None] % 2)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def mixture() -> GaussianMixture:
    table = pa.table({"<script>alert(1)</script>": X[:, 0], "age & rank": X[:, 1]})
    return GaussianMixture(2, random_state=0, max_iter=1, tol=0).fit(table)


def saved(model: Any, folder: Path) -> Path:
    path = folder / "model.npz"
    model.save(path)
    return path


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_the_page_tells_the_parameters_the_fit_and_what_is_wrong(tmp_path: Path) -> None:
    done = call(saved(mixture(), tmp_path), "-o", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text()
    assert "The fit ended after 1 iteration before it had converged." in page
    for words in (
        "2 components of 2 features",
        "400 rows",
        "means_ (2 × 2)",
        "GaussianMixture.load(&#x27;model.npz&#x27;)",
    ):
        assert words in page
    assert page.count("<img ") == 3
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(mixture(), saved(mixture(), tmp_path), None)
    assert re.findall(r"(?:src|href)\s*=\s*'(?!data:)", page) == []
    assert re.findall(r"url\(|@import|<link|<iframe", page) == []


def test_pages_of_chains_streams_and_families_in_words(tmp_path: Path) -> None:
    hmm = GaussianHMM(2, random_state=0, n_iter=3).fit(X)
    assert "From state to state" in page_of(hmm, saved(hmm, tmp_path), None)
    gm = GaussianMixture(2, random_state=0).fit_stream([X] * 5, history=tmp_path / "h.arrows")
    done = call(saved(gm, tmp_path), "-o", tmp_path / "s.html", "--history", tmp_path / "h.arrows")
    assert done.exit_code == 0, done.output
    assert "What the stream taught" in (tmp_path / "s.html").read_text()
    mix = Mixture("gaussian-diag", 2, random_state=0, max_iter=2).fit(X)
    assert "params_" in page_of(mix, saved(mix, tmp_path), None)


def test_starts_that_disagree_and_components_that_vanish_are_told() -> None:
    gm = mixture()
    gm.report_.passes[-1] = type(gm.report_.passes[-1])(
        **{**vars(gm.report_.passes[-1]), "start": 1, "log_likelihood": 9.0}
    )
    gm.weights_ = np.array([0.99, 0.01])
    told = " ".join(warnings_of(gm))
    assert "2 starts ended in different maxima" in told
    assert "less than a tenth of an equal share: 1." in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "page.txt"], "a page ends in .html"),
        (["-o", "there.html"], "pass --overwrite"),
        (["-o", "absent/page.html"], "there is no folder"),
        (["-o", "page.html", "--history", "bad.arrows"], "cannot be read as an Arrow stream"),
    ],
)
def test_mistakes_are_told(arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(mixture(), tmp_path)
    Path("there.html").touch()
    Path("bad.arrows").write_bytes(b"no stream")
    done = call("model.npz", *arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert not Path("page.html").exists()
    assert not list(tmp_path.glob(".*"))


FRAMES = """<!doctype html><body style='margin:0'>{frames}<script>onload = () => {{
const told = [...document.querySelectorAll('iframe')].map(frame => {{
  const page = frame.contentDocument.documentElement, images = [...frame.contentDocument.images];
  return [frame.width, page.scrollWidth, page.scrollHeight, images.every(i => i.naturalWidth > 0),
          Math.max(...images.map(i => i.getBoundingClientRect().right))].join(' ');
}});
document.body.innerHTML = '<pre>' + told.join('\\n') + '</pre>'; }}</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, so no page is laid out")
def test_a_browser_lays_it_out_without_overflow_at_two_widths(tmp_path: Path) -> None:
    """Neither on a telephone nor on a screen; wide tables scroll by themselves, and every picture is drawn."""
    (tmp_path / "page.html").write_text(page_of(mixture(), saved(mixture(), tmp_path), None))
    frames = "".join(f"<iframe src='page.html' width='{width}' height='900'></iframe>" for width in (360, 1200))
    (tmp_path / "frames.html").write_text(FRAMES.format(frames=frames))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    more = [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [*command, *more, f"file://{tmp_path}/frames.html"], capture_output=True, text=True, check=False, timeout=120
    )
    told = re.findall(r"^(?:.*<pre>)?(\d+) (\d+) (\d+) (\w+) ([\d.]+)", done.stdout, re.MULTILINE)
    assert [int(width) for width, *_ in told] == [360, 1200], done.stderr[-2000:]
    for width, needed, height, drawn, right in told:
        assert int(needed) <= int(width)
        assert int(height) > 1500
        assert drawn == "true"
        assert float(right) <= int(width)
