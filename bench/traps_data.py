"""Small published tables whose likelihoods have several maxima: the data of `bench.traps`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris

Array = NDArray[Any]

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
"""Four questions about surveys (McCutcheon 1987; data set of R's poLCA), by the first letters of the answers."""

FAITHFUL = """
3600/79 1800/54 3333/74 2283/62 4533/85 2883/55 4700/88 3600/85 1950/51 4350/85 1833/54 3917/84 4200/78 1750/47
4700/83 2167/52 1750/62 4800/84 1600/52 4250/79 1800/51 1750/47 3450/78 3067/69 4533/74 3600/83 1967/55 4083/76
3850/78 4433/79 4300/73 4467/77 3367/66 4033/80 3833/74 2017/52 1867/48 4833/80 1833/59 4783/90 4350/80 1883/58
4567/84 1750/58 4533/73 3317/83 3833/64 2100/53 4633/82 2000/59 4800/75 4716/90 1833/54 4833/80 1733/54 4883/83
3717/71 1667/64 4567/77 4317/81 2233/59 4500/84 1750/48 4800/82 1817/60 4400/92 4167/78 4700/78 2067/65 4700/73
4033/82 1967/56 4500/79 4000/71 1983/62 5067/76 2017/60 4567/78 3883/76 3600/83 4133/75 4333/82 4100/70 2633/65
4067/73 4933/88 3950/76 4517/80 2167/48 4000/86 2200/60 4333/90 1867/50 4817/78 1833/63 4300/72 4667/84 3750/75
1867/51 4900/82 2483/62 4367/88 2100/49 4500/83 4050/81 1867/47 4700/84 1783/52 4850/86 3683/81 4733/75 2300/59
4900/89 4417/79 1700/59 4633/81 2317/50 4600/85 1817/59 4417/87 2617/53 4067/69 4250/77 1967/56 4600/88 3767/81
1917/45 4500/82 2267/55 4650/90 1867/45 4167/83 2800/56 4333/89 1833/46 4383/82 1883/51 4933/86 2033/53 3733/79
4233/81 2233/60 4533/82 4817/77 4333/76 1983/59 4633/80 2017/49 5100/96 1800/53 5033/77 4000/77 2400/65 4600/81
3567/71 4000/70 4500/81 4083/93 1800/53 3967/89 2200/45 4150/86 2000/58 3833/78 3500/66 4583/76 2367/63 5000/88
1933/52 4617/93 1917/49 2083/57 4583/77 3333/68 4167/81 4333/81 4500/73 2417/50 4000/85 4167/74 1883/55 4583/77
4250/83 3767/83 2033/51 4433/78 4083/84 1833/46 4417/83 2183/55 4800/81 1833/57 4800/76 4100/84 3966/77 4233/81
3500/87 4366/77 2250/51 4667/78 2100/60 4350/82 4133/91 1867/53 4600/78 1783/46 4367/77 3850/84 1933/49 4500/83
2383/71 4700/80 1867/49 3833/75 3417/64 4233/76 2400/53 4800/94 2000/55 4150/76 1867/50 4267/82 1750/54 4483/75
4000/78 4117/79 4083/78 4267/78 3917/70 4550/79 4083/70 2417/54 4183/86 2217/50 4450/90 1883/54 1850/54 4283/77
3950/79 2333/64 4150/75 2350/47 4933/86 2900/63 4583/85 3833/82 2083/57 4367/82 2133/67 4350/74 2200/54 4450/83
3567/73 4500/73 4150/88 3817/80 3917/71 4450/83 2000/56 4283/79 4767/78 4533/84 1850/58 4250/83 1983/43 2250/60
4750/75 4117/81 2150/46 4417/90 1817/46 4467/74
"""
"""Old Faithful: eruption in thousandths of a minute, and minutes of waiting (Azzalini & Bowman 1990; R's datasets)."""


def codes(table: str) -> Array:
    """Codes of every row (n, d), each pattern as often as it was counted."""
    entries = [entry.split() for entry in table.replace("\n", " ").split(",")]
    letters = np.array([list(answers) for answers, _ in entries])
    coded = np.stack([np.unique(column, return_inverse=True)[1] for column in letters.T], axis=1)
    return np.repeat(coded, [int(count) for _, count in entries], axis=0)


def faithful() -> Array:
    """(272, 2) minutes."""
    pairs = np.array([entry.split("/") for entry in FAITHFUL.split()], dtype=np.float64)
    return pairs / [1000.0, 1.0]


def iris() -> Array:
    """(150, 4) centimetres (Fisher 1936)."""
    return np.asarray(load_iris().data, dtype=np.float64)


def grid(rows: int = 2500) -> Array:
    """Rows of 25 clusters, five by five, six deviations apart; from the true means EM ends at -15050.034664."""
    rng = np.random.default_rng(0)
    means = 6.0 * np.array([[i, j] for i in range(5) for j in range(5)], dtype=np.float64)
    return means[rng.integers(25, size=rows)] + rng.normal(size=(rows, 2))
