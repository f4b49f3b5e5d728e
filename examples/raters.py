"""Who is right? True labels of a hundred thousand pictures from the votes of raters of unknown reliability.

Five of two hundred raters looked at each picture; some of these label at random. Dawid & Skene's model weighs every
vote by what its rater's confusion table says, and beats the majority. The votes lie in Parquet, picture by picture.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamem import DawidSkene

PICTURES, RATERS, VOTES, LABELS = 100_000, 200, 5, np.array(["bird", "cat", "dog"])

rng = np.random.default_rng(0)
truth = rng.choice(3, PICTURES, p=[0.5, 0.3, 0.2])
picture = np.repeat(np.arange(PICTURES), VOTES)
rater = rng.integers(RATERS, size=len(picture))
skill = np.where(np.arange(RATERS) < 80, 0.0, 0.9)  # eighty of them label at random
right = rng.random(len(picture)) < skill[rater]
label = np.where(right, truth[picture], rng.integers(3, size=len(picture)))

with tempfile.TemporaryDirectory() as folder:
    votes = Path(folder) / "votes.parquet"
    pq.write_table(pa.table({"item": picture, "rater": rater, "label": LABELS[label]}), votes)
    model = DawidSkene(tol=1e-5).fit(votes)
    labels = model.predict(votes)
    model.predict_proba(votes, out=Path(folder) / "probabilities.parquet")
    print(pq.read_table(Path(folder) / "probabilities.parquet").slice(0, 3).to_pandas().round(3))

counts = np.zeros((PICTURES, 3))
np.add.at(counts, (picture, label), 1.0)
majority = LABELS[counts.argmax(axis=1)]
print("shares of the labels:", dict(zip(model.classes_.tolist(), model.class_prior_.round(3).tolist(), strict=True)))
right_by_majority, right_by_model = np.mean(majority == LABELS[truth]), np.mean(labels == LABELS[truth])
print(f"right labels by majority: {right_by_majority:.3f}, by the model: {right_by_model:.3f}")
own = model.confusion_[:, range(3), range(3)].mean(axis=1)
print("least reliable raters:", model.raters_[np.argsort(own)[:5]].tolist())
assert right_by_model > right_by_majority + 0.05
assert (np.sort(np.argsort(own)[:80]) == np.arange(80)).mean() > 0.95
