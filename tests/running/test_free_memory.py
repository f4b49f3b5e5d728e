"""Free memory by control groups and resource limits, from trees of files as containers and schedulers make them."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamem import GaussianMixture
from streamem.core.errors import MemoryLimitError
from streamem.running import free_memory, memory
from streamem.running.free_memory import FreeMemory

MIB = 2**20
UNLIMITED = 2**63 - 4096


class Tree:
    """A proc file system and control groups below a folder; sizes are in MiB."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._mounts = folder, ["23 1 0:1 / / rw - ext4 /dev/vda rw\n"]
        self.proc = folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/status").write_text("Name: python\nVmSize:\t  1024 kB\nVmData:\t  1024 kB\n")

    def process(self, *memberships: str) -> Tree:
        (self.proc / "self/cgroup").write_text("".join(f"{line}\n" for line in memberships))
        return self

    def mount(self, at: str, version: int, root: str = "/") -> Tree:
        system = "cgroup2 cgroup rw,nsdelegate" if version == 2 else "cgroup cgroup rw,memory"
        escaped = str(self._folder / at).replace(" ", "\\040")
        self._mounts.append(f"31 23 0:{len(self._mounts)} {root} {escaped} rw,nosuid shared:9 - {system}\n")
        (self.proc / "self/mountinfo").write_text("".join(self._mounts))
        return self

    def v2(self, at: str, most: float | str, used: float = 0, high: float | str = "max", **stat: float) -> Tree:
        written = {"memory.max": most, "memory.high": high, "memory.current": used}
        return self._group(at, written, stat)

    def v1(self, at: str, most: float | None, used: float = 0, hierarchy: int = 1, **stat: float) -> Tree:
        limit = UNLIMITED / MIB if most is None else most
        written = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used}
        self._group(at, written, {f"total_{name}": nbytes for name, nbytes in stat.items()})
        (self._folder / at / "memory.use_hierarchy").write_text(f"{hierarchy}\n")
        return self

    def _group(self, at: str, written: dict[str, Any], stat: dict[str, float]) -> Tree:
        (group := self._folder / at).mkdir(parents=True, exist_ok=True)
        for name, value in written.items():
            (group / name).write_text(f"{value if value == 'max' else int(value * MIB)}\n")
        lines = [f"{name} {int(nbytes * MIB)}\n" for name, nbytes in {"anon": 7.0, **stat}.items()]
        (group / "memory.stat").write_text("".join(lines))
        return self

    def free(self) -> tuple[float, str]:
        """MiB, and by which of the groups."""
        found = free_memory.free_memory(self.proc)
        return found.nbytes / MIB, found.of.replace(f"{self._folder}/", "")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "a place")


def test_systemd(tree: Tree) -> None:
    """Version 2: a scope in a slice; the tightest of all groups above it counts."""
    tree.mount("cg", 2).process("0::/user.slice/user-1.slice/run-7.scope")
    tree.v2("cg/user.slice", 900, 100).v2("cg/user.slice/user-1.slice", 500, 450).v2(
        "cg/user.slice/user-1.slice/run-7.scope", "max", 40
    )
    assert tree.free() == (50, "the control group cg/user.slice/user-1.slice (memory.max: 500 MiB)")


def test_high_counts_like_max(tree: Tree) -> None:
    tree.mount("cg", 2).process("0::/job").v2("cg/job", 500, 100, high=300)
    assert tree.free() == (200, "the control group cg/job (memory.high: 300 MiB)")


def test_pages_of_files_are_free(tree: Tree) -> None:
    """All that a pass over a large store left behind, but not the libraries that are mapped and in use."""
    tree.mount("cg", 2).process("0::/job")
    tree.v2("cg/job", 500, 494, inactive_file=300, active_file=90, file_mapped=30, slab_reclaimable=10)
    assert tree.free()[0] == 6 + 300 + 60 + 10
    tree.v2("cg/job", 500, 494, inactive_file=300, active_file=20, file_mapped=30)
    assert tree.free()[0] == 6 + 300


def test_slurm(tree: Tree) -> None:
    """Version 1 beside a version 2 that limits nothing; the limit is the job's, above the step's."""
    tree.mount("cg/memory", 1).mount("cg/unified", 2)
    tree.process("4:memory:/slurm/uid_1/job_2/step_0", "3:cpuset:/slurm/uid_1", "0::/", "1:name=systemd:/x")
    (top := "cg/memory/slurm/uid_1")
    tree.v1("cg/memory", None, 9000).v1(top, None, 9000).v1(f"{top}/job_2", 800, 700, inactive_file=100)
    tree.v1(f"{top}/job_2/step_0", None, 600)
    assert tree.free() == (200, f"the control group {top}/job_2 (memory.limit_in_bytes: 800 MiB)")


def test_parents_without_hierarchy_count_nothing(tree: Tree) -> None:
    tree.mount("cg", 1).process("4:cpu,memory:/a/b").v1("cg/a", 100, 99, hierarchy=0).v1("cg/a/b", 400, 100)
    assert tree.free()[0] == 300


@pytest.mark.parametrize(
    ("membership", "root"),
    [
        pytest.param("/", "/", id="a namespace of its own"),
        pytest.param("/docker/abc", "/docker/abc", id="none: the mount shows the container's group only"),
        pytest.param("/kubepods/pod1/c", "/../..", id="a root above the namespace"),
        pytest.param("/../other", "/", id="a group outside the namespace"),
        pytest.param("/docker/abc", "/", id="none: the group's folder is not to be seen"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_containers(tree: Tree, version: int, membership: str, root: str) -> None:
    """Docker and Kubernetes: what is mounted is the container's group, whatever the process says it is called."""
    tree.mount("cg", version, root).process(f"{'4:memory' if version == 1 else '0:'}:{membership}")
    (tree.v1 if version == 1 else tree.v2)("cg", 512, 112)  # type: ignore[operator]
    assert tree.free()[0] == 400


def test_kubernetes_seen_from_the_host(tree: Tree) -> None:
    tree.mount("cg", 2).process("0::/kubepods.slice/pod1.slice/cri-1.scope").v2("cg/kubepods.slice", "max", 9999)
    tree.v2("cg/kubepods.slice/pod1.slice", 300, 100).v2("cg/kubepods.slice/pod1.slice/cri-1.scope", 256, 100)
    assert tree.free()[0] == 156


def test_over_its_limit_a_group_leaves_nothing_and_never_more_than_the_limit(tree: Tree) -> None:
    tree.mount("cg", 2).process("0::/job").v2("cg/job", 500, 600)
    assert tree.free()[0] == 0
    tree.v2("cg/job", 500, 100, inactive_file=200)  # counted at another moment
    assert tree.free()[0] == 500


@pytest.mark.parametrize(
    ("limited", "name"), [(resource.RLIMIT_AS, "RLIMIT_AS"), (resource.RLIMIT_DATA, "RLIMIT_DATA")]
)
def test_resource_limits(tree: Tree, monkeypatch: pytest.MonkeyPatch, limited: int, name: str) -> None:
    limits = {limited: (9 * MIB, resource.RLIM_INFINITY)}
    nothing = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits.get(which, nothing))
    assert tree.free() == (8, f"{name} (9 MiB) of this process")


def test_without_anything_it_is_the_machine(tmp_path: Path) -> None:
    assert free_memory.free_memory(tmp_path).of == "the machine"


def test_a_refusal_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: FreeMemory(6 * MIB, "the control group /x (memory.max: 9 MiB)"))
    with pytest.raises(MemoryLimitError, match=r"3\.00 MiB \(half of what the control group /x .* leaves free\)"):
        GaussianMixture(2).fit(np.zeros((2**18, 8)))
    with pytest.raises(MemoryLimitError, match=r"1\.00 MiB \(memory_limit\)"):
        GaussianMixture(64, memory_limit="1MiB").fit(np.zeros((2**18, 64)))
