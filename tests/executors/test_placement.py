"""Who does what on a cluster: every item once, workers kept busy, homes kept."""

from __future__ import annotations

from collections import Counter

from streamem.executors.placement import Placement, preferred

WORKERS = {f"tcp://{i}": threads for i, threads in enumerate((1, 1, 4))}
NAMES = [f"data-{i}" for i in range(300)]


def test_every_item_is_handed_out_once_to_workers_by_their_threads() -> None:
    placement = Placement(WORKERS, NAMES, NAMES)
    given: Counter[str] = Counter()
    items, running = [], []
    while placement:
        item, worker = placement.take()
        items.append(item)
        running.append(worker)
        given[worker] += 1
        if len(running) == 12:
            in_flight = Counter(running)
            assert in_flight == {"tcp://0": 2, "tcp://1": 2, "tcp://2": 8}
            placement.done(running.pop(0))
    assert sorted(items) == sorted(NAMES)
    assert 190 < given["tcp://2"] < 210


def test_an_item_goes_home_while_its_worker_is_free() -> None:
    placement = Placement({"a": 1, "b": 1}, NAMES[:40], NAMES[:40])
    home = Counter(preferred(["a", "b"], name) for name in NAMES[:40])
    kept = 0
    for _ in range(2 * min(home.values())):
        item, worker = placement.take()
        kept += worker == preferred(["a", "b"], item)
    assert kept == 2 * min(home.values())


def test_few_homes_change_when_a_worker_joins() -> None:
    before = [preferred(["a", "b", "c"], name) for name in NAMES]
    after = [preferred(["a", "b", "c", "d"], name) for name in NAMES]
    moved = [now for then, now in zip(before, after, strict=True) if then != now]
    assert set(moved) == {"d"}
    assert 50 < len(moved) < 100
