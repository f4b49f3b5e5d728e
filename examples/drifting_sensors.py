"""Machines warm up, and the mixture follows: a stream whose clusters drift, learned with a half-life.

Three kinds of machine report temperature and vibration. All day they drift, which a half-life of 1,000 readings
follows; then a bearing fails, one kind jumps, and the alarm is raised. Draws drifting_sensors.png in this folder.
"""

import matplotlib
import numpy as np
import pyarrow as pa

from streamem import GaussianMixture

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BATCHES, ROWS, FAILURE = 300, 200, 220
SPREAD = np.array([[[2.0, 0.5], [0.5, 0.3]], [[1.5, -0.4], [-0.4, 0.4]], [[3.0, 0.0], [0.0, 0.2]]])


def centres(batch):
    """Where the three kinds of machine are: (3, 2), °C and mm/s."""
    t = batch / BATCHES
    bearing = 3.0 if batch >= FAILURE else 0.0
    return np.array([[40 + 14 * t, 2 + 2 * t], [58 + 8 * t, 7 - t + bearing], [80 - 10 * t, 1 + 2 * t]])


def readings(rng):
    """The stream: an Arrow table at a time."""
    roots = np.linalg.cholesky(SPREAD)
    for batch in range(BATCHES):
        kind = rng.integers(3, size=ROWS)
        x = centres(batch)[kind] + np.einsum("nij,nj->ni", roots[kind], rng.normal(size=(ROWS, 2)))
        shown.append(x[:10])
        yield pa.table({"temperature": x[:, 0], "vibration": x[:, 1]})


shown, followed, alarms = [], [], []
gm = GaussianMixture(n_components=3, random_state=0)


def follow(update):
    """After every mini-batch; the attributes of the model are up to date."""
    followed.append((update.rows, gm.means_, gm.covariances_))


def alarm(update):
    """When mini-batches are predicted far worse than those before."""
    alarms.append(update.rows)
    print(f"alarm at reading {update.rows:,}: predicted at {update.log_likelihood:.2f} nats a reading")


gm.on_update(follow)
stream = readings(np.random.default_rng(0))
gm.fit_stream(stream, half_life=1000, batch_rows=ROWS, on_drift=alarm)

print(
    f"the bearing failed at {FAILURE * ROWS:,}; what is remembered is worth {gm.effective_sample_size_:,.0f} readings"
)
order = np.argsort(gm.means_[:, 0])
for found, true in zip(gm.means_[order], centres(BATCHES), strict=True):
    print(f"{found[0]:.1f} °C, {found[1]:.1f} mm/s; true {true[0]:.1f}, {true[1]:.1f}")
assert np.allclose(gm.means_[order], centres(BATCHES), atol=1.0)
assert len(alarms) == 1
assert 0 <= alarms[0] - FAILURE * ROWS <= 5 * ROWS


def ellipse(mean, covariance):
    """Where a component has its density's contour of two standard deviations: (100, 2)."""
    angle = np.linspace(0, 2 * np.pi, 100)
    return mean + 2 * np.column_stack([np.cos(angle), np.sin(angle)]) @ np.linalg.cholesky(covariance).T


figure, axis = plt.subplots(figsize=(9, 6.5), layout="constrained")
x = np.concatenate(shown)
hours = np.linspace(0, 24, len(x))
dots = axis.scatter(*x.T, c=hours, s=4, cmap="viridis", alpha=0.5)
figure.colorbar(dots, label="time of a reading (hours)")
paths = np.array([means for _, means, _ in followed])
for k, colour in enumerate(["tab:red", "tab:orange", "tab:pink"]):
    axis.plot(*paths[:, k].T, color=colour, lw=2.5, label=f"mean of component {k}")
    for moment in (5, FAILURE - 1, BATCHES - 1):
        axis.plot(*ellipse(followed[moment][1][k], followed[moment][2][k]).T, color=colour, lw=1.2)
axis.set(xlabel="temperature (°C)", ylabel="vibration (mm/s)", ylim=(-1, 12.5))
axis.set_title("Components follow drifting sensors; ellipses (2 σ) at the start, before the failure, and at the end")
axis.annotate("bearing fails: alarm", (63.6, 7.7), (66.5, 7.0), arrowprops={"arrowstyle": "->"}, va="center")
axis.legend(loc="upper left")
figure.savefig("drifting_sensors.png", dpi=110)
