"""Does an animal attend to its task all the time? A GLM-HMM of decisions, from Parquet.

A mouse sees a grating of some contrast on its left (negative) or its right, and turns a wheel to one side. A logistic
regression, the psychometric curve, says how its choices depend on the contrast, and takes all wrong choices at full
contrast for lapses that come at random. Ashwood et al. (2022, Nature Neuroscience 25) found instead that mice change
between strategies that last tens to hundreds of trials: engaged, when the stimulus decides, and disengaged, when they
mostly go to one side. Such a GLM-HMM is a hidden Markov model, of which each state is a logistic regression.

The trials are made up here, with weights and durations like those of the paper: the hidden strategies are known.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from streamem import HMM
from streamem.families import Regression

SESSIONS, TRIALS, LEARNED = 60, 500, 50
CONTRASTS = np.array([-1.0, -0.5, -0.25, -0.125, 0.0, 0.125, 0.25, 0.5, 1.0])
NAMES = ["engaged", "leans to the left", "leans to the right"]
BIAS = np.array([0.1, -2.0, 2.0])  # log-odds of "right" when there is nothing to see
STIMULUS = np.array([6.0, 1.0, 1.0])  # by how much full contrast moves them
PREVIOUS = np.array([0.2, 0.5, 0.5])  # and the choice before
STAYS = np.array([0.985, 0.975, 0.975])

rng = np.random.default_rng(0)


def session(number: int) -> pd.DataFrame:
    """The trials of one session: what was seen, chosen before and chosen now, and the strategy behind it."""
    state, before, rows = int(rng.integers(3)), 0.0, []
    for contrast in rng.choice(CONTRASTS, size=TRIALS):
        odds = BIAS[state] + STIMULUS[state] * contrast + PREVIOUS[state] * before
        right = rng.random() < 1.0 / (1.0 + np.exp(-odds))
        rows.append((number, contrast, before, float(right), state))
        before = 1.0 if right else -1.0
        if rng.random() > STAYS[state]:
            state = int(rng.choice([other for other in range(3) if other != state]))
    return pd.DataFrame(rows, columns=["session", "contrast", "previous", "right", "state"])


with tempfile.TemporaryDirectory() as folder:
    sessions = [session(number) for number in range(SESSIONS)]
    learned, later = pd.concat(sessions[:LEARNED]), pd.concat(sessions[LEARNED:])
    trials, held_out = str(Path(folder, "trials.parquet")), str(Path(folder, "held_out.parquet"))
    learned.drop(columns="state").to_parquet(trials)
    later.drop(columns="state").to_parquet(held_out)

    family = Regression("binomial", response="right")  # of the other columns: contrast, previous
    settings = {"tol": 1e-6, "n_iter": 500, "random_state": 0}
    curve = HMM(family, 1, **settings).fit(trials, sequence_column="session")  # one strategy for all trials
    model = HMM(family, 3, start="short_em", **settings).fit(trials, sequence_column="session")
    print(f"{model.n_iter_} iterations over {model.report_.n_rows:,} trials")

    # States come in any order: engaged is the one in which contrast matters most.
    weights, bias = family.coef(model.params_), family.intercept(model.params_)
    engaged = int(np.argmax(weights[:, 0]))
    left, right = sorted((k for k in range(3) if k != engaged), key=lambda k: bias[k])
    order = [engaged, left, right]
    print("\nstrategy             bias  contrast  previous  trials at a time")
    for name, k in zip(NAMES, order, strict=True):
        lasts = 1.0 / (1.0 - model.transmat_[k, k])
        print(f"{name:18} {bias[k]:6.2f} {weights[k, 0]:9.2f} {weights[k, 1]:9.2f} {lasts:17.0f}")

    # Sessions that neither model has seen: how much each tells of a choice beyond a coin.
    told = {
        name: 1.0 + one.score(held_out, sequence_column="session") / len(later) / np.log(2.0)
        for name, one in (("one psychometric curve", curve), ("three strategies", model))
    }
    for name, bits in told.items():
        print(f"{name:23} {bits:.3f} bits of each choice foretold")

    posterior = model.predict_proba(held_out, sequence_column="session")[:, order]
    truth = later["state"].to_numpy()
    found = np.mean(posterior.argmax(axis=1) == truth)
    sure = posterior.max(axis=1) > 0.9
    right_where_sure = np.mean((posterior.argmax(axis=1) == truth)[sure])
    print(f"{found:.1%} of the strategies are found, {right_where_sure:.1%} of those told with 90 % or more")

    assert np.allclose(weights[order, 0], STIMULUS, atol=0.6)
    assert np.allclose(bias[order], BIAS, atol=0.4)
    assert np.allclose(model.transmat_[order, order], STAYS, atol=0.01)
    assert told["three strategies"] > told["one psychometric curve"] + 0.1
    assert found > 0.85
