"""How much memory this process may still take, and who says so: the machine, a control group, or a resource limit.

A control group's pages of files are counted as free, as the kernel does for the machine (MemAvailable in proc(5)): it
takes them back before it refuses anything. They are most of what a group "uses" after a pass over a large store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from streamem.machine.importing import uninterrupted

PROC = Path("/proc")

LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
"""Files of a group, by version; above `memory.high` a group is slowed down until it hardly runs."""

NO_LIMIT = 2**60
"""Version 1 says 2⁶³ less a page where there is no limit."""

USED = {1: "memory.usage_in_bytes", 2: "memory.current"}


@dataclass(frozen=True)
class FreeMemory:
    """What is free, and the tightest limit that makes it so.

    Attributes
    ----------
    nbytes : not negative
    of : whose limit, in words
    """

    nbytes: int
    of: str


def free_memory(proc: Path = PROC) -> FreeMemory:
    """The least of what the machine, the control groups of this process, and its resource limits leave.

    Parameters
    ----------
    proc : where the proc file system lies
    """
    return min([_of_machine(), *_of_groups(proc), *_of_process(proc)], key=lambda free: free.nbytes)


def _of_machine() -> FreeMemory:
    with uninterrupted("psutil"):
        import psutil

    return FreeMemory(int(psutil.virtual_memory().available), "the machine")


def _of_groups(proc: Path) -> Iterator[FreeMemory]:
    with suppress(OSError):
        for version, group in _groups((proc / "self/cgroup").read_text(), proc):
            for name in LIMITS[version]:
                with suppress(OSError, ValueError):  # "max", or a group without this controller
                    if (limit := int((group / name).read_text())) < NO_LIMIT:
                        left = limit - int((group / USED[version]).read_text()) + _reclaimable(group, version)
                        words = f"the control group {group} ({name}: {_mib(limit)})"
                        yield FreeMemory(max(0, min(left, limit)), words)


@lru_cache(maxsize=8)
def _groups(memberships: str, proc: Path) -> tuple[tuple[int, Path], ...]:
    """Version and folder of each control group that may limit memory: this process's own, and those above it."""
    mounts = tuple(_mounts((proc / "self/mountinfo").read_text()))
    found: dict[Path, int] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        version = 2 if not controllers else 1 if "memory" in controllers.split(",") else 0
        for mounted in mounts:
            if mounted.version == version:
                found |= dict.fromkeys(_upwards(mounted.folder(path), mounted.point, version), version)
    return tuple((version, group) for group, version in found.items())


@dataclass(frozen=True)
class _Mount:
    """Where a hierarchy of control groups is mounted: `root` of it at `point`."""

    version: int
    root: str
    point: Path

    def folder(self, path: str) -> Path:
        """The folder of a group; of one that is not below the root that a container was given, the root's."""
        below = PurePosixPath(path)
        if ".." in below.parts or not below.is_relative_to(self.root):
            return self.point
        return self.point / below.relative_to(self.root)


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """Mount points of control-group hierarchies that can limit memory (mountinfo in proc(5))."""
    for line in mountinfo.splitlines():
        mounted, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        version = 2 if kind == "cgroup2" else 1 if kind == "cgroup" and "memory" in options.split(",") else 0
        if version:
            root, point = (_unescaped(part) for part in mounted.split(" ")[3:5])
            yield _Mount(version, root, Path(point))


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _upwards(group: Path, top: Path, version: int) -> Iterator[Path]:
    """A group and those above it, as far as its memory is counted there."""
    while True:
        yield group
        if group == top:
            return
        group = group.parent
        if version == 1 and _text(group / "memory.use_hierarchy") == "0":
            return


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""


def _reclaimable(group: Path, version: int) -> int:
    """Bytes of a group that the kernel takes back when somebody needs them.

    Pages of files, but those of the active ones that are mapped, as libraries are; of version 2 also what it remembers
    of files (slab_reclaimable: a kilobyte for each of a store's).
    """
    lines = (line.split() for line in _text(group / "memory.stat").splitlines())
    stat = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    prefix, mapped = ("", "file_mapped") if version == 2 else ("total_", "total_mapped_file")
    active = max(0, stat.get(f"{prefix}active_file", 0) - stat.get(mapped, 0))
    return stat.get(f"{prefix}inactive_file", 0) + active + stat.get("slab_reclaimable", 0)


def _of_process(proc: Path) -> Iterator[FreeMemory]:
    """What setrlimit(2) leaves of the address space, and of data."""
    import resource  # which not every system has

    status = _text(proc / "self/status")
    for limited, name, field in (
        (resource.RLIMIT_AS, "RLIMIT_AS", "VmSize"),
        (resource.RLIMIT_DATA, "RLIMIT_DATA", "VmData"),
    ):
        limit, used = resource.getrlimit(limited)[0], re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        if limit != resource.RLIM_INFINITY and used:
            yield FreeMemory(max(0, limit - 1024 * int(used[1])), f"{name} ({_mib(limit)}) of this process")


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.0f} MiB"
