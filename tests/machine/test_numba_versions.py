"""Numba's internals are used, so that a version that nobody has tested is named."""

from __future__ import annotations

import logging

import numba
import pytest

from streamem.machine.whole_numba import NEWEST_TESTED, tell_if_untested


def test_the_installed_version_is_a_tested_one() -> None:
    """Where this fails, run the whole suite on that version, and raise `NEWEST_TESTED`."""
    assert tuple(numba.version_info[:2]) <= NEWEST_TESTED


@pytest.mark.parametrize(
    ("version", "told"), [((0, 62, 1), False), ((0, 68, 9), False), ((0, 69), True), ((1, 0), True)]
)
def test_newer_versions_are_named(version: tuple[int, ...], told: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "streamem"):
        tell_if_untested(version)
    assert ("is newer than 0.68" in caplog.text) == told
