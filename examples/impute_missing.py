"""Values that were not observed: a mixture learns from rows with holes, and fills them in.

Four measurements of three species; every fifth value is missing. Filling in by the columns' means forgets what the rest
of the row tells; the mixture knows the species and how its measurements go together.
"""

import numpy as np

from streamem import GaussianMixture

ROWS, K, D = 30_000, 3, 4
rng = np.random.default_rng(0)
means = rng.normal(scale=3.0, size=(K, D))
factors = rng.normal(size=(K, D, D))
species = rng.integers(K, size=ROWS)
whole = means[species] + np.einsum("nij,nj->ni", factors[species], rng.normal(size=(ROWS, D)))
holes = np.where(rng.random(whole.shape) < 0.2, np.nan, whole)
missing = np.isnan(holes)

gm = GaussianMixture(K, missing="integrate", n_init=3, random_state=0).fit(holes)
filled = gm.impute(holes)
draws = gm.impute(holes, n_draws=1)

by_column = np.where(missing, np.nanmean(holes, axis=0), holes)
errors = {
    name: np.sqrt(np.mean((x - whole)[missing] ** 2)) for name, x in [("columns", by_column), ("mixture", filled)]
}
print(f"{missing.sum():,} values are missing; root mean squared errors of what is filled in:")
print(f"  means of the columns  {errors['columns']:.3f}")
print(f"  conditional means     {errors['mixture']:.3f}")
spread = {name: np.std(np.reshape(x, whole.shape)[missing]) for name, x in [("means", filled), ("draws", draws)]}
print(f"spread of the true values {np.std(whole[missing]):.3f}")
print(f"of conditional means {spread['means']:.3f}, of draws {spread['draws']:.3f}")
assert (filled[~missing] == whole[~missing]).all()
assert errors["mixture"] < 0.75 * errors["columns"]
