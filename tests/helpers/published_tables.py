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

ANAESTHETISTS = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2232223 4444444 2223343 1111111 2223212
1121111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 1222222 1111111 1111111 2232222 1111111
1111111 1121121 1111111 3333233 1111111 2222222 2223232 3344343 1222232 2233233 3333432 1111111 1111111 1122111
2232222 1121111 2222222
"""
"""Grades 1 to 4 of 45 patients' fitness for anaesthesia (Dawid & Skene 1979, Appl. Stat. 28, table 1): three by
observer 1, one each by observers 2 to 5."""

NILE_FLOWS = """
1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140 1100 1210 1150 1250 1260
1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969 831 726 456 824 702 1120 1100 832 764 821 768 845 864
862 698 845 744 796 1040 759 781 865 845 944 984 897 822 1010 771 676 649 846 812 742 801 1040 860 874 848 890 744 749
838 1050 918 986 797 923 975 815 1020 906 901 1170 912 746 919 718 714 740
"""
NILE = np.array([float(flow) for flow in NILE_FLOWS.split()])[:, None]
"""Annual flow of the Nile at Aswan in 10⁸ m³, 1871–1970 (Cobb 1978; data set of R)."""

LSAT = """
00000 3, 00001 6, 00010 2, 00011 11, 00100 1, 00101 1, 00110 3, 00111 4, 01000 1, 01001 8, 01011 16, 01101 3, 01110 2,
01111 15, 10000 10, 10001 29, 10010 14, 10011 81, 10100 3, 10101 28, 10110 15, 10111 80, 11000 16, 11001 56, 11010 21,
11011 173, 11100 11, 11101 61, 11110 28, 11111 298
"""
"""Five items of the Law School Admission Test, section 6, of 1000 people (Bock & Lieberman 1970; R's ltm)."""

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


def anaesthetists() -> np.ndarray:
    """Votes (315, 3): patient, observer, grade."""
    observers = [1, 1, 1, 2, 3, 4, 5]
    patients = enumerate(ANAESTHETISTS.split(), start=1)
    return np.array([[p, o, int(grade)] for p, grades in patients for o, grade in zip(observers, grades, strict=True)])


def lsat() -> tuple[np.ndarray, np.ndarray]:
    """Patterns (30, 5) of right and wrong answers, and how many gave them."""
    answers, counts = patterns(LSAT)
    return np.array([[float(letter) for letter in text] for text in answers]), counts
