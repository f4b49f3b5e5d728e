"""A live model in a service: one process learns from a stream, another scores with the newest file.

Sensors report temperature and pressure, which drift. The learner is the command `streamem update`, reading JSON lines
from its standard input; it saves twice a second and answers Prometheus. The scorer is this process: it reloads the file
when there is a newer one, scores readings as they come, and tells those that the model would draw once in 2,000.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from streamem import GaussianMixture

BATCHES, ROWS, RARE = 60, 200, 1 / 2000


class Newest:
    """The model of a file that another process replaces, with the log-density below which a reading is odd."""

    def __init__(self, path):
        self.path, self.seen, self.loads, self.model = path, None, 0, None

    def reload(self):
        """Take the file if it is another one: it is replaced as a whole, so it is never half written."""
        state = os.stat(self.path)
        if (state.st_ino, state.st_mtime_ns) != self.seen:
            self.seen, self.loads = (state.st_ino, state.st_mtime_ns), self.loads + 1
            self.model = GaussianMixture.load(self.path)
            self.least = np.quantile(self.model.score_samples(self.model.sample(20_000)[0]), RARE)

    def odd(self, rows):
        """(n,) which readings the model of the moment would hardly draw."""
        self.reload()
        return self.model.score_samples(rows) < self.least


def readings(rng, batch):
    """A batch of (temperature, pressure), and which of them are faults."""
    x = rng.normal([40 + 0.03 * batch, 5.0], [2.0, 0.3], size=(ROWS, 2))
    fault = rng.random(ROWS) < 0.01
    x[fault] += rng.choice([-1, 1], size=(fault.sum(), 2)) * [20.0, 3.0]
    return x, fault


def main(folder):
    path, rng = Path(folder, "live.npz"), np.random.default_rng(0)
    options = ["-k", "1", "--seed", "0", "--half-life", "2000", "--batch-rows", str(ROWS), "--save-every", "0.5"]
    service = ["--metrics", "127.0.0.1:0", "--log-json", "--dead-letter", str(Path(folder, "bad.arrows"))]
    command = [sys.executable, "-m", "streamem", "update", str(path), *options, *service]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as learner:
        metrics = learner.stderr.readline().split()[-1]  # "metrics at http://127.0.0.1:…/metrics"
        newest, told, faults, found = Newest(path), 0, 0, 0
        for batch in range(BATCHES):
            x, fault = readings(rng, batch)
            honest = ~fault
            if path.exists():
                odd = newest.odd(x)
                told, faults, found = told + odd.sum(), faults + fault.sum(), found + (odd & fault).sum()
                honest = ~odd  # what is odd is not learned
            learner.stdin.write("".join(json.dumps(row) + "\n" for row in x[honest].tolist()))
            learner.stdin.flush()
            while batch == 9 and not path.exists():  # the first batches make the first model
                time.sleep(0.1)
            time.sleep(0.05)
        page = urllib.request.urlopen(metrics, timeout=10).read().decode()
        learner.stdin.close()
        log = [json.loads(line) for line in learner.stderr]
    print(next(line for line in page.splitlines() if line.startswith("streamem_rows_total ")))
    print(log[-1]["message"])
    print(f"{newest.loads} models were loaded; {told} readings told, {found} of the {faults} faults among them")
    assert learner.returncode == 0
    assert newest.loads > 1
    assert found > 0.9 * faults
    assert told - found < 0.5 * told


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
