"""Latent classes of a survey: columns of text in Parquet, one answer in ten missing, a million people.

EM runs over the different rows, each with the number of people who gave these answers: the report says how many.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamem import LatentClass

PEOPLE, ANSWERS = 1_000_000, np.array(["never", "sometimes", "often"])
SHARES = np.array([0.5, 0.3, 0.2])
HABITS = {  # by column, the chances of the three answers in each class
    "walks": [[0.1, 0.3, 0.6], [0.6, 0.3, 0.1], [0.2, 0.6, 0.2]],
    "drives": [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]],
    "cycles": [[0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.3, 0.5, 0.2]],
    "flies": [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]],
    "sails": [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]],
}

rng = np.random.default_rng(0)
classes = rng.choice(3, PEOPLE, p=SHARES)
columns = {}
for name, table in HABITS.items():
    codes = (rng.random((PEOPLE, 1)) > np.cumsum(table, axis=1)[classes]).sum(axis=1)
    columns[name] = pa.array(ANSWERS[codes], mask=rng.random(PEOPLE) < 0.1)

with tempfile.TemporaryDirectory() as folder:
    survey = Path(folder) / "survey.parquet"
    pq.write_table(pa.table(columns), survey)
    model = LatentClass(3, missing="integrate", n_init=3, random_state=0).fit(survey)
    print(model.report_.origin.replace(folder, "…"))
    likely = model.predict_proba(survey).max(axis=1).mean()

order = np.argsort(-model.weights_)
print("shares of the classes:", model.weights_[order].round(3))
for name, table in model.class_probabilities_.items():
    often = list(model.categories_[name]).index("often")
    print(f"{name:8} often, by class: {table[order, often].round(2)}")
print(f"a person is assigned with a probability of {likely:.2f} on average")
assert np.abs(model.weights_[order] - SHARES).max() < 0.02
