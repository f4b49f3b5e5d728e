"""Every family, model, algorithm, source, sink, stream and executor is in a suite; a new one without is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import members
from helpers.format_files import FORMATS
from helpers.members import classes_of_the_package, members_of, named_in_suites
from streamem.core.ports import Executor, FullFamily, Model
from streamem.core.ports.running import Variant
from streamem.sinks.opening import SINKS
from streamem.sources.kinds import KINDS


def is_stream(kind: type) -> bool:
    """Whether a class has what the protocol of streams asks for."""
    return all(hasattr(kind, name) for name in ("messages", "commit"))


PORTS: dict[str, Callable[[type], bool]] = {
    "FamilySuite": lambda kind: issubclass(kind, FullFamily),
    "ModelSuite": lambda kind: issubclass(kind, Model),
    "AlgorithmSuite": lambda kind: issubclass(kind, Variant),
    "StreamSuite": is_stream,
    "ExecutorSuite": lambda kind: issubclass(kind, Executor),
}
"""By suite, which classes of the package have to obey it."""


@pytest.mark.parametrize("suite", PORTS)
def test_every_member_is_named_in_a_suite(suite: str) -> None:
    found = members_of(PORTS[suite])
    assert found, "the walk through the package finds nobody"
    assert found - named_in_suites(suite) == set()


@pytest.mark.parametrize(("suite", "base"), [("FamilySuite", FullFamily), ("AlgorithmSuite", Variant)])
def test_a_member_without_suite_is_noticed(suite: str, base: type, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = type("PlantedMember", (base,), dict.fromkeys(base.__abstractmethods__))  # type: ignore[attr-defined]
    everybody = (*classes_of_the_package(), planted)
    monkeypatch.setattr(members, "classes_of_the_package", lambda: everybody)
    assert members_of(PORTS[suite]) - named_in_suites(suite) == {"PlantedMember"}


def test_only_classes_that_inherit_the_suite_count(tmp_path: Path) -> None:
    """A class that mentions a member elsewhere says nothing about it."""
    classes = ("A(FamilySuite): make = Gamma", "B(A): make = Beta", "C(ModelSuite): make = Delta")
    (tmp_path / "test_x.py").write_text("\n".join(f"class {text}" for text in classes))
    assert named_in_suites("FamilySuite", tmp_path) >= {"Gamma", "Beta"}
    assert "Delta" not in named_in_suites("FamilySuite", tmp_path)


def test_tables_that_users_choose_from_have_their_cases() -> None:
    """Sources and sinks are chosen by tables: every line has a case in the test of its suite."""
    from test_conformance import CASES
    from test_sink_laws import READERS

    assert READERS.keys() == SINKS.keys()
    assert len(CASES) + len(FORMATS) >= len(KINDS)  # test_every_kind_of_source_has_a_case says which one is missing
