"""Small published tables that several tests fit: counts of patterns, with their source."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

CARCINOMA = """
1111111 34, 1111211 2, 1211111 6, 1211112 1, 1211211 4, 1211212 5, 2111111 2, 2121212 1, 2211111 2, 2211112 1,
2211211 2, 2211212 7, 2211222 1, 2212112 1, 2212212 2, 2212222 3, 2221212 13, 2221222 5, 2222212 10, 2222222 16
"""
"""Seven pathologists judge 118 slides (Agresti 2002, table 13.1; data set of R's poLCA): answers, and how many."""

GSS82 = """
DMFC 2, DMFI 6, DMGC 4, DMGH 1, DMGI 23, DNFC 3, DNFH 2, DNFI 9, DNGC 9, DNGH 2, DNGI 43, GMFC 25, GMFH 5, GMFI 71,
GMGC 35, GMGH 2, GMGI 419, GNFC 16, GNFH 5, GNFI 42, GNGC 25, GNGH 4, GNGI 270, WMFC 2, WMFI 1, WMGC 3, WMGI 26,
WNFC 12, WNFH 8, WNFI 13, WNGC 23, WNGH 6, WNGI 85
"""
"""Four questions about surveys (McCutcheon 1987; data set of R's poLCA), by the first letters of the answers; H is
impatient."""

GSS82_COLUMNS = ("PURPOSE", "ACCURACY", "UNDERSTA", "COOPERAT")


def patterns(table: str) -> tuple[list[str], np.ndarray]:
    """Answers, one text a pattern, and counts (p,)."""
    pairs = [entry.split() for entry in table.replace("\n", " ").split(",")]
    return [answers for answers, _ in pairs], np.array([float(count) for _, count in pairs])


def carcinoma() -> np.ndarray:
    """Codes 0 and 1 of every slide: (118, 7)."""
    answers, counts = patterns(CARCINOMA)
    codes = np.array([[float(letter) - 1.0 for letter in text] for text in answers])
    return np.repeat(codes, counts.astype(int), axis=0)


def gss82() -> pa.Table:
    """Columns of text, and n, the count of each pattern."""
    answers, counts = patterns(GSS82)
    columns = {name: [text[j] for text in answers] for j, name in enumerate(GSS82_COLUMNS)}
    return pa.table({**columns, "n": counts})
