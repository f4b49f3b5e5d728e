"""Anomaly scores from a stream: every mini-batch is scored by what was learned before it, and then learned.

Payments come in three kinds; one in 200 is a fraud, which looks like none of them. The alarm threshold needs no labels:
it is the log-density below which the model itself would draw one payment in 2,000.
"""

import numpy as np

from streamem import GaussianMixture

BATCHES, ROWS, WARM_UP = 200, 500, 20
FRAUDS, FALSE_ALARMS = 1 / 200, 1 / 2000


def payments(rng):
    """The stream: mini-batches of (log amount, hour, log distance), and which of them are frauds."""
    centres = np.array([[3.0, 12.0, 0.5], [4.5, 19.0, 1.5], [6.0, 10.0, 3.0]])
    for _ in range(BATCHES):
        kind = rng.choice(3, size=ROWS, p=[0.6, 0.3, 0.1])
        x = centres[kind] + rng.normal(size=(ROWS, 3)) * [0.5, 1.5, 0.4]
        fraud = rng.random(ROWS) < FRAUDS
        x[fraud] = rng.uniform([1.0, 0.0, 0.0], [9.0, 24.0, 6.0], size=(fraud.sum(), 3))
        yield x, fraud


gm = GaussianMixture(n_components=3, random_state=0)
alarms = hits = frauds = scored = 0
for batch, (x, fraud) in enumerate(payments(np.random.default_rng(0))):
    alarm = np.zeros(ROWS, dtype=bool)
    if batch >= WARM_UP:
        drawn, _ = gm.sample(20_000)
        threshold = np.quantile(gm.score_samples(drawn), FALSE_ALARMS)
        alarm = gm.score_samples(x) < threshold  # before the model has seen them
        alarms, hits = alarms + alarm.sum(), hits + (alarm & fraud).sum()
        frauds, scored = frauds + fraud.sum(), scored + ROWS
    gm.partial_fit(x, sample_weight=1.0 - alarm)  # what gave alarm is not learned, or it would soon look normal

print(f"{scored:,} payments scored, {frauds} of them frauds; {alarms} alarms")
print(f"precision {hits / alarms:.0%} (alarms that are frauds), recall {hits / frauds:.0%} (frauds that gave alarm)")
print(
    f"false alarms: one in {(scored - frauds) / (alarms - hits):,.0f} honest payments, {1 / FALSE_ALARMS:,.0f} wanted"
)
assert hits / alarms > 0.85
assert hits / frauds > 0.7
