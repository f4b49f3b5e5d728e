"""``streamem update --metrics --log-json``: what a service shows while it learns, and what it says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client.core
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from streamem import GaussianMixture
from streamem.cli.main import main
from streamem.cli.metrics import COUNTERS, GAUGES, Watch
from streamem.streams.folder import FolderStream

ROWS = np.random.default_rng(0).normal(size=(400, 2)) + 8.0 * (np.arange(400)[:, None] % 2)
NEW = ["-k", "2", "--seed", "0", "--batch-rows", "100", "--save-every", "0"]


def lines(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows.tolist())


def scraped(address: str) -> dict[str, float]:
    """Every sample of the page, by name."""
    text = urllib.request.urlopen(address, timeout=20).read().decode()
    return {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}


def test_a_running_service_answers_prometheus_and_logs_json(tmp_path: Path) -> None:
    """The numbers are those of the records that came; the log is one object a line, to the end."""
    options = [*NEW, "--metrics", "127.0.0.1:0", "--log-json", "--dead-letter", str(tmp_path / "bad.arrows")]
    command = [sys.executable, "-m", "streamem", "update", str(tmp_path / "m.npz"), *options, "--poison-limit", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        assert "streamem_rows_total" not in scraped(address)  # nothing is known before something came
        process.stdin.write(lines(ROWS[:250]) + '{"a": 1}\n[1, "text"]\n' + lines(ROWS[250:]))
        process.stdin.flush()
        found: dict[str, float] = {}
        while found.get("streamem_rows_total", 0) < 300 or found["streamem_records_total"] < 402:
            found = scraped(address)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == ""
    assert found["streamem_dead_letters_total"] == 2
    assert found["streamem_records_total"] == 402
    assert found["streamem_drift_alarms_total"] == 0
    assert found["streamem_log_likelihood_nats_per_row"] < 0
    assert 0 <= found["streamem_seconds_since_save"] < 60
    assert found["process_resident_memory_bytes"] > 1e6
    assert "streamem_lag_messages" not in found  # of a pipe nobody knows
    log = [json.loads(line) for line in err.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in log)
    events = [line.get("event") for line in log]
    assert events.count("update") >= 3
    assert events[-1] == "end"
    assert log[-1]["rows"] == 400
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=20)


def test_every_metric_has_a_value_once_something_was_learned(tmp_path: Path) -> None:
    """Of a folder the files that wait are known, too."""
    for number in range(3):
        pq.write_table(pa.table({"a": ROWS[:200, 0], "b": ROWS[:200, 1]}), tmp_path / f"{number}.parquet")
    gm = GaussianMixture(2, random_state=0)
    watch, seen = Watch(gm, prometheus_client.core), []
    gm.on_update(lambda update: seen.append(watch.values()))
    gm.fit_stream(FolderStream(tmp_path, follow=False), batch_rows=200)
    assert [values["lag_messages"] for values in seen] == [2, 1, 0]
    assert seen[-1].keys() == COUNTERS.keys() | GAUGES.keys()
    assert [values["rows"] for values in seen] == [200, 400, 600]
    families = {family.name: family for family in watch.collect()}
    assert "streamem_lag_messages" not in families  # the run is over
    assert families["streamem_updates"].samples[0].value == 3


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":9100", "localhost:99999", "http://x:1", "::1:9100"])
def test_what_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["update", str(tmp_path / "m.npz"), *NEW, "--metrics", address])
    assert done.exit_code == 2
    assert "give one, such as 127.0.0.1:9100" in done.output


def test_an_address_that_is_taken_is_told_before_anything_is_learned(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines(ROWS))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["update", str(tmp_path / "m.npz"), str(tmp_path / "x.jsonl"), *NEW, "--metrics", where]
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert f"--metrics {where} cannot be listened at" in done.output
    assert not (tmp_path / "m.npz").exists()


def test_errors_are_json_too(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines(ROWS) + '{"a": 1}\n')
    command = [sys.executable, "-m", "streamem", "update", str(tmp_path / "m.npz"), str(tmp_path / "x.jsonl"), *NEW]
    done = subprocess.run([*command, "--log-json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["level"], last["event"], last["kind"]) == ("error", "error", "PoisonError")
    assert "cannot be used" in last["message"]
