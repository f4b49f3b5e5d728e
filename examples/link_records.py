"""Who is who in two registers: candidate pairs in Parquet, their levels of agreement, and the probability of a match.

The registers are made up: the second one has 300 of the 1,000 people of the first, with typing errors, moves and gaps.
Pairs are compared where years of birth agree or are next to each other; what is compared is the user's own code.
"""

import tempfile
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamem import RecordLinkage

LEVELS = {"surname": ["differs", "similar", "same"], "forename": ["differs", "similar", "same"]}

# --- two registers ---------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
SYLLABLES = ["an", "bel", "cor", "dan", "el", "fin", "gar", "hol", "is", "jo", "kar", "lin", "mar", "nor", "ol"]


def name(parts):
    return "".join(rng.choice(SYLLABLES, parts))


def with_error(text):
    """The name, one in six with a letter that is wrong."""
    at = rng.integers(len(text))
    return text[:at] + rng.choice(list("aeiou")) + text[at + 1 :] if rng.random() < 1 / 6 else text


people = [(name(3), name(2), int(rng.integers(1940, 2000)), int(rng.integers(40))) for _ in range(1_000)]
known = rng.choice(1_000, size=300, replace=False)
register = [
    (with_error(a), with_error(b) if rng.random() > 0.1 else None, year, town if rng.random() > 0.2 else 41)
    for a, b, year, town in (people[i] for i in known)
] + [(name(3), name(2), int(rng.integers(1940, 2000)), int(rng.integers(40))) for _ in range(700)]

# --- candidate pairs, and how far they agree -------------------------------------------------------------------------


def likeness(a, b):
    """One of LEVELS; None where a name was not told."""
    if a is None or b is None:
        return None
    return "same" if a == b else "similar" if SequenceMatcher(None, a, b).ratio() > 0.8 else "differs"


def compared(pairs):
    """The table of levels: text, and 0 or 1."""
    both = [(people[i], register[j]) for i, j in pairs]
    return pa.table(
        {
            "left": [i for i, _ in pairs],
            "right": [j for _, j in pairs],
            "surname": [likeness(a[0], b[0]) for a, b in both],
            "forename": [likeness(a[1], b[1]) for a, b in both],
            "town": [int(a[3] == b[3]) for a, b in both],
            "year": [int(a[2] == b[2]) for a, b in both],
        }
    )


candidates = [(i, j) for i, a in enumerate(people) for j, b in enumerate(register) if abs(a[2] - b[2]) < 2]

with tempfile.TemporaryDirectory() as folder:
    pairs, scored = Path(folder, "pairs.parquet"), Path(folder, "scored.parquet")
    pq.write_table(compared(candidates), pairs, row_group_size=10_000)

    # --- EM, and a score for every pair ------------------------------------------------------------------------------

    link = RecordLinkage(levels=LEVELS, id_columns=["left", "right"]).fit(pairs)
    link.score_pairs(pairs, out=scored)

    # --- what came out -----------------------------------------------------------------------------------------------

    for column, weights in link.match_weights_.items():
        told = zip(link.levels_[column], weights.round(1).tolist(), strict=True)
        print(f"{column}: " + ", ".join(f"{level} {bits:+} bits" for level, bits in told))
    table = pq.read_table(scored)
    probability = table["match_probability"].to_numpy()
    matched = {
        (i, j)
        for i, j, p in zip(*(table[c].to_pylist() for c in ("left", "right")), probability, strict=True)
        if p > 0.5
    }
    truth = {(int(i), j) for j, i in enumerate(known)}
    right = len(matched & truth)
    print(f"{table.num_rows:,} pairs, {len(matched)} matches, {right} of them right, of 300 that there are")
    assert right > 0.95 * len(matched)
    assert right > 0.9 * len(truth)
