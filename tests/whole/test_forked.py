"""A forked child learns and answers with the bits of its parent, whatever the parent did before or is doing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

JOB = """
import json, multiprocessing, os, signal, sys, threading, warnings
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, zarr
from sklearn.cluster import KMeans
from streamem import GaussianHMM, GaussianMixture
from streamem.core.blas import one_blas_thread

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork with threads
folder = Path(sys.argv[1])
x = np.random.default_rng(0).normal(size=(3000, 4))
x[::2] += 4
pq.write_table(pa.table({f"c{i}": x[:, i] for i in range(4)}), folder / "x.parquet", row_group_size=1000)
zarr.create_array(str(folder / "x.zarr"), data=x, chunks=(1000, 4))
KMeans(8, n_init=1, random_state=0).fit(np.tile(x, (4, 1)))  # OpenMP threads, all that there are
fitted = GaussianMixture(3, random_state=0).fit(folder / "x.parquet")
mix = lambda: GaussianMixture(3, random_state=0)

def bits(model):
    return model.means_.tobytes().hex()

JOBS = {
    "fit": lambda: bits(mix().fit(x)),
    "fit parquet": lambda: bits(mix().fit(folder / "x.parquet")),
    "fit zarr": lambda: bits(mix().fit(folder / "x.zarr")),
    "partial_fit": lambda: bits(mix().partial_fit(x)),
    "fit_stream": lambda: bits(mix().fit_stream([x, x])),
    "predict": lambda: fitted.predict(folder / "x.zarr").tobytes().hex()[:1000],
    "hmm": lambda: bits(GaussianHMM(2, random_state=0, n_iter=3).partial_fit(x)),
}
expected = {name: job() for name, job in JOBS.items()}

def named(name):
    return JOBS[name]()

def forked(job):
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        signal.alarm(40)  # a child that hangs is killed
        answer = ""
        try:
            answer = job()
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    return pid, text

found = {}
for name, job in JOBS.items():
    pid, text = forked(job)
    found[name] = text == expected[name], os.waitpid(pid, 0)[1]

held, over = threading.Event(), threading.Event()
def hold():
    with one_blas_thread():
        held.set()
        over.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid, text = forked(JOBS["partial_fit"])
found["while another thread computes"] = text == expected["partial_fit"], os.waitpid(pid, 0)[1]
over.set()
thread.join()

def leave_and_learn():
    block.__exit__(None, None, None)
    return JOBS["fit_stream"]()
block = one_blas_thread()
block.__enter__()
pid, text = forked(leave_and_learn)
found["within a computation"] = text == expected["fit_stream"], os.waitpid(pid, 0)[1]
block.__exit__(None, None, None)
found["the parent goes on"] = JOBS["partial_fit"]() == expected["partial_fit"], 0

with multiprocessing.get_context("fork").Pool(2) as pool:
    answers = pool.map_async(named, ["fit_stream"] * 2, 1)
    found["multiprocessing"] = answers.get(40) == [expected["fit_stream"]] * 2, 0
print(json.dumps(found))
"""


def test_children_learn_and_answer_as_their_parent(tmp_path: Path) -> None:
    job = subprocess.run([sys.executable, "-c", JOB, str(tmp_path)], capture_output=True, timeout=300)
    assert job.returncode == 0, job.stderr.decode()[-2000:]
    found = json.loads(job.stdout)
    assert len(found) == 11
    assert {name: answer for name, answer in found.items() if answer != [True, 0]} == {}, job.stderr.decode()[-2000:]


INHERITED = """
import os, signal, sys, warnings
import numpy as np
from distributed import Client
from streamem import GaussianMixture
from streamem.core.errors import ClusterError

warnings.simplefilter("ignore", DeprecationWarning)
x = np.random.default_rng(0).normal(size=(300, 2))
client = Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0")
expected = GaussianMixture(2, random_state=0).fit(x).means_.tobytes()
if os.fork() == 0:
    signal.alarm(40)
    code = 1
    try:
        same = GaussianMixture(2, random_state=0).fit(x).means_.tobytes() == expected
        try:
            GaussianMixture(2).fit(x, executor=client)
        except ClusterError as error:
            code = 0 if same and "forked" in str(error) else 2
    finally:
        os._exit(code)
status = os.wait()[1]
client.close()
sys.exit(status)
"""


@pytest.mark.slow
def test_a_dask_client_of_the_parent_is_not_waited_for() -> None:
    job = subprocess.run([sys.executable, "-c", INHERITED], capture_output=True, timeout=120)
    assert job.returncode == 0, job.stderr.decode()[-2000:]
