#!/usr/bin/env bash
# From a Parquet file to labels without writing Python. Run it in an empty folder.
set -euo pipefail

python - <<'PYTHON'
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
rng = np.random.default_rng(0)
kind = rng.integers(3, size=30_000)
table = pa.table({name: rng.normal(kind * shift, 1.0) for name, shift in [("a", 4.0), ("b", -3.0), ("c", 1.0)]})
pq.write_table(table, "data.parquet", row_group_size=10_000)
PYTHON

streamem fit gmm data.parquet -k 3 --columns a,b,c --seed 0 --memory 200MiB --checkpoint run.npz -o model.npz
streamem show model.npz
streamem score model.npz data.parquet
streamem predict model.npz data.parquet -o labels.parquet
streamem predict model.npz data.parquet --proba -o probabilities.zarr
streamem sample model.npz -n 1000 --seed 1 -o drawn.parquet
