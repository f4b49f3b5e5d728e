"""Letters of an English text fall into vowels and consonants by themselves (Cave & Neuwirth 1980).

A hidden Markov model of two states is fitted to nothing but the letters and blanks of licence texts that this Python
installation ships, in the order in which they come. One state turns out to emit vowels, the other consonants.
"""

import os
from importlib.metadata import files
from pathlib import Path

import numpy as np

from streamem import CategoricalHMM

ALPHABET = "abcdefghijklmnopqrstuvwxyz "
VOWELS = "aeiou"


def licence_text() -> str:
    """The interpreter's own licence where it lies beside the standard library, and NumPy's, which is always there."""
    library = Path(os.__file__).parent
    own = [path for path in (library / "LICENSE.txt", library.parent / "LICENSE.txt") if path.is_file()]
    others = [Path(str(file.locate())) for file in files("numpy") or [] if "LICENSE" in file.name.upper()]
    return "\n".join(path.read_text(errors="replace") for path in [*own[:1], *sorted(others)] if path.is_file())


def codes(text: str) -> np.ndarray:
    """0 … 25 for letters, 26 for every run of anything else."""
    letters = "".join(letter if letter in ALPHABET else " " for letter in text.lower())
    return np.array([ALPHABET.index(letter) for letter in " ".join(letters.split())], dtype=float)[:, None]


text = codes(licence_text())
print(f"{len(text):,} letters and blanks")

hmm = CategoricalHMM(n_components=2, n_categories=27, n_init=5, n_iter=500, tol=1e-6, random_state=0).fit(text)
share = hmm.emissionprob_ / hmm.emissionprob_.sum(axis=0)  # of each letter, how much either state emits
vowel = int(np.argmax(share[:, ALPHABET.index("e")]))
found = "".join(letter for letter, chance in zip(ALPHABET, share[vowel], strict=True) if chance > 0.5)

print(f"state of vowels:     {found!r}")
print(f"state of consonants: {''.join(letter for letter in ALPHABET if letter not in found)!r}")
print(f"after a vowel comes another one with probability {hmm.transmat_[vowel, vowel]:.2f}")
print(f"after a consonant comes a vowel with probability {hmm.transmat_[1 - vowel, vowel]:.2f}")

assert set(VOWELS) <= set(found), "a, e, i, o and u are alike"
assert len(set(found) - set(VOWELS) - set(" y")) <= 3, "and few others are like them"
