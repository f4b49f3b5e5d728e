"""Model files and checkpoints: exact, atomic, and not to be fooled."""

from __future__ import annotations

import importlib.metadata
import io
import json
import logging
import os
import random
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamem.core import archive as module
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive, read_newest
from streamem.core.errors import ModelFileError, OutputError, ParameterError

PAYLOAD = np.array([0x7FF8_0000_DEAD_BEEF, 0xFFF0_0000_0000_0001], dtype=np.uint64).view(np.float64)
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    **{code: np.arange(6).reshape(2, 3).astype(code) for code in ("i1", "u2", "i8", "f2", "f4", "f8", "c16")},
    "big-endian": np.arange(3, dtype=">f8"),
    "bool": np.array([True, False]),
    "zero-dimensional": np.array(-0.0),
    "empty": np.zeros((0, 4)),
    "empty.fortran": np.zeros((3, 0), order="F"),
    "nan.payload": PAYLOAD,
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(20)[::3],
    "unicode": np.array([["ä", "b😀", ""]]),
    "bytes": np.array([b"x", b"long"]),
    "three": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
}


def save(path: Path, value: float = 1.0, keep: int = 0, **arrays: Any) -> Path:
    write_archive(path, "model", {"value": value}, {"x": np.full(1000, value), **arrays}, keep=keep)
    return path


# --- what is saved comes back -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip_is_exact(tmp_path: Path, name: str) -> None:
    saved = ARRAYS[name]
    write_archive(tmp_path / "m.npz", "model", {}, {name: saved})
    loaded = read_archive(tmp_path / "m.npz", "model").arrays[name]
    assert loaded.dtype == saved.dtype
    assert loaded.shape == saved.shape
    assert loaded.tobytes() == saved.tobytes()
    assert loaded.flags.writeable
    if saved.flags.forc:
        assert loaded.flags.f_contiguous == saved.flags.f_contiguous


def test_meta_comes_back(tmp_path: Path) -> None:
    meta = {"list": [1, None, True, "ü"], "tenth": 0.1, "nested": {"infinite": float("inf")}}
    write_archive(str(tmp_path / "m.npz"), "checkpoint", meta, {})
    archive = read_archive(str(tmp_path / "m.npz"), "checkpoint")
    assert archive.meta == meta
    assert archive.arrays == {}
    assert archive.path == tmp_path / "m.npz"


def test_numpy_opens_it(tmp_path: Path) -> None:
    write_archive(tmp_path / "m.npz", "model", {"a": 1}, ARRAYS)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as opened:
        assert set(opened.files) == {*ARRAYS, "meta.json"}
        for name, saved in ARRAYS.items():
            assert opened[name].tobytes() == saved.tobytes()
        document = json.loads(opened["meta.json"])
    assert document["meta"] == {"a": 1}
    assert document["versions"]["numpy"] == np.__version__


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", "model", {"a": 1, "b": 2}, {"x": PAYLOAD, "y": ARRAYS["f4"]})
    write_archive(tmp_path / "b", "model", {"b": 2, "a": 1}, {"y": ARRAYS["f4"], "x": PAYLOAD})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("name", "array", "error"),
    [
        ("x", np.array([{}], dtype=object), TypeError),
        ("x", np.zeros(2, dtype=[("a", "f8")]), TypeError),
        ("../x", np.zeros(2), ParameterError),
        ("", np.zeros(2), ParameterError),
        ("meta.json", np.zeros(2), ParameterError),
        ("x.npy", np.zeros(2), ParameterError),
    ],
)
def test_refused_on_writing(tmp_path: Path, name: str, array: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        write_archive(tmp_path / "m.npz", "model", {}, {name: array})
    assert list(tmp_path.iterdir()) == []


def test_meta_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_archive(tmp_path / "m.npz", "model", {"a": np.zeros(1)}, {})
    with pytest.raises(ParameterError, match="pass what is long as an array"):
        write_archive(tmp_path / "m.npz", "model", {"a": "x" * 2**24}, {})
    assert list(tmp_path.iterdir()) == []


def test_saving_works_without_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", fail)
    save(tmp_path / "m.npz")
    assert read_archive(tmp_path / "m.npz", "model").meta == {"value": 1}


# --- generations --------------------------------------------------------------------------------------------


def test_generations_rotate(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    for value in range(5):
        save(path, value, keep=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.npz", "m.npz.1", "m.npz.2"]
    found = [read_archive(tmp_path / name, "model").meta["value"] for name in ("m.npz", "m.npz.1", "m.npz.2")]
    assert found == [4, 3, 2]


def test_keep_must_not_be_negative(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="keep=-1"):
        save(tmp_path / "m.npz", keep=-1)


def test_newest_valid_generation_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m[1].npz"
    for value in range(12):
        save(path, value, keep=11)
    path.write_bytes(path.read_bytes()[:100])
    path.with_name("m[1].npz.1").unlink()
    path.with_name("m[1].npz.2").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="streamem"):
        archive = read_newest(path, "model")
    assert archive.meta["value"] == 8
    assert archive.path.name == "m[1].npz.3"
    assert [record.name for record in caplog.records] == ["streamem"] * 2
    assert "Going on with the older generation" in caplog.text


def test_newest_is_silent_when_all_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for value in (1, 2):
        save(tmp_path / "m.npz", value, keep=1)
    assert read_newest(tmp_path / "m.npz", "model").meta["value"] == 2
    assert not caplog.records


def test_no_generation_is_valid(tmp_path: Path) -> None:
    for value in (1, 2):
        save(tmp_path / "m.npz", value, keep=1)
    for file in tmp_path.iterdir():
        file.write_bytes(b"PK")
    with pytest.raises(ModelFileError, match="none of 2 generations can be read"):
        read_newest(tmp_path / "m.npz", "model")
    with pytest.raises(ModelFileError, match=r"^no such file: .*absent"):
        read_newest(tmp_path / "absent" / "m.npz", "model")


def test_an_intact_file_of_another_kind_is_not_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "m.npz")
    write_archive(path, "checkpoint", {}, {}, keep=1)
    with pytest.raises(ModelFileError, match="is a checkpoint, not a model"):
        read_newest(path, "model")


# --- failures of saving -------------------------------------------------------------------------------------


def test_synced_before_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def record_replace(source: Any, destination: Any) -> None:
        calls.append(Path(destination).name)
        replace(source, destination)

    path = tmp_path / "m.npz"
    for value in (1, 2):
        save(path, value, keep=2)
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    save(path, 3, keep=2)
    assert calls == ["file", "m.npz.2", "m.npz.1", "m.npz", "folder"]


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_failed_rename_undoes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    path = tmp_path / "m.npz"
    for value in (1, 2):
        save(path, value, keep=2)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    calls, replace = iter(range(1, 100)), os.replace

    def fail_once(source: Any, destination: Any) -> None:
        if next(calls) == failing:
            raise error
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail_once)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"Permission denied; the earlier file is intact|^$") as raised:
        save(path, 3, keep=2)
    assert raised.value is error or raised.value.__cause__ is error
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_interrupted_writing_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "m.npz")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_synced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "sync_folder", fail)
    with pytest.raises(OutputError, match="is complete, but its folder cannot be synced"):
        save(tmp_path / "m.npz")
    assert read_archive(tmp_path / "m.npz", "model").meta["value"] == 1


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write the model .*there is no folder .*create it first"):
        save(tmp_path / "absent" / "m.npz")


def run(script: str, *arguments: object) -> Any:
    """Run a script in a fresh Python and give back the JSON it prints."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


DISK_FULL = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.errors import OutputError

path = Path(sys.argv[1])
write_archive(path, "model", {"value": 1}, {"x": np.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_archive(path, "model", {"value": 2}, {"x": np.zeros(100_000)}, keep=1)
    text = "written"
except OutputError as error:
    text = str(error)
names = [file.name for file in path.parent.iterdir()]
print(json.dumps([text, names, read_archive(path, "model").meta["value"]]))
"""


@pytest.mark.parametrize("limit_bytes", [0, 100, 50_000, 800_100])
def test_full_disk_leaves_the_earlier_file(tmp_path: Path, limit_bytes: int) -> None:
    text, names, value = run(DISK_FULL, tmp_path / "m.npz", limit_bytes)
    assert "File too large" in text
    assert text.endswith("the earlier file is intact")
    assert names == ["m.npz"]
    assert value == 1


CRASH = """
import json, os, sys
from pathlib import Path
import numpy as np
from streamem.core import archive, archive_reading

folder, keep = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "m.npz"

def save(value):
    content = {"x": np.full(1000, value), "y": np.full((3, 3), value, order="F")}
    archive.write_archive(path, "checkpoint", {"value": value}, content, keep=keep)

def found():
    newest = archive_reading.read_newest(path, "checkpoint")
    assert all((array == newest.meta["value"]).all() for array in newest.arrays.values())
    return newest.meta["value"]

class Writing:
    def __init__(self, file, step):
        self.file, self.step = file, step
    def write(self, data):
        data = bytes(data)
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.step()
        self.file.write(data[len(data) // 2 :])
        return len(data)
    def __getattr__(self, name):
        return getattr(self.file, name)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()

def inject(last):
    steps = iter(range(1, 1000))
    def step():
        if next(steps) == last:
            os._exit(17)
    def around(function):
        def call(*arguments):
            step()
            function(*arguments)
            step()
        return call
    os.fsync, os.replace = around(os.fsync), around(os.replace)
    archive.open = lambda path, mode: Writing(open(path, mode), step)

outcomes = []
for last in range(1, 1000):
    for file in folder.iterdir():
        file.unlink()
    for value in (0, 1, 2):
        save(value)
    child = os.fork()
    if child == 0:
        inject(last)
        save(3)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    value = found()
    save(4)
    outcomes.append([code, value, found()])
    if code == 0:
        break
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_crash_at_every_step_leaves_old_or_new(tmp_path: Path, keep: int) -> None:
    outcomes = run(CRASH, tmp_path, keep)
    codes = [code for code, _, _ in outcomes]
    values = [value for _, value, _ in outcomes]
    assert codes == [17] * (len(codes) - 1) + [0]
    assert len(codes) > 15 + 2 * keep
    assert values == sorted(values)
    assert set(values) == {2, 3}
    assert all(after == 4 for _, _, after in outcomes)


# --- files that lie -----------------------------------------------------------------------------------------


def document(**changes: Any) -> bytes:
    content = {"schema": 1, "kind": "model", "meta": {}, "arrays": ["x"], "versions": {"streamem": "9.9"}}
    return json.dumps({**content, **changes}).encode()


def npy(descr: Any = "<f8", shape: Any = (2,), data: bytes = bytes(16)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def packed(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        for name, data in members:
            opened.writestr(name, data)
    return stream.getvalue()


def model(data: bytes | None = None, name: str = "x.npy", **changes: Any) -> bytes:
    return packed(("meta.json", document(**changes)), (name, npy() if data is None else data))


def plain_savez() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(2))
    return stream.getvalue()


def overlapping() -> bytes:
    """Many directory entries that point at the same data: a bomb without compression."""
    names = [f"x{index:03}" for index in range(200)]
    data = npy(shape=(10_000,), data=bytes(80_000))
    whole = packed(("meta.json", document(arrays=names)), *((f"{name}.npy", b"") for name in names))
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        start = opened.start_dir
    single = packed(("x000.npy", data))
    with zipfile.ZipFile(io.BytesIO(single)) as opened:
        length, checksum = opened.start_dir, opened.infolist()[0].CRC
    stream = io.BytesIO(whole)
    with zipfile.ZipFile(stream, "a") as opened:
        for member in opened.infolist()[1:]:
            member.header_offset, member.CRC = start, checksum
            member.file_size = member.compress_size = len(data)
        stream.seek(start)
        stream.write(single[:length])
        opened.start_dir = start + length
        opened._didModify = True
    return stream.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "the sound one, to see that the others fail for their fault": (model, ""),
    "empty": (lambda: b"", "not a zip file"),
    "random bytes": (lambda: np.random.default_rng(1).bytes(10_000), "not a zip file"),
    "truncated in half": (lambda: model()[: len(model()) // 2], "not a zip file"),
    "plain savez": (plain_savez, "has no meta.json"),
    "pickle": (lambda: model(pickled()), "holds object; allowed are"),
    "records": (lambda: model(npy([("a", "<f8")])), "allowed are numbers"),
    "subarrays": (lambda: model(npy("(2,)<f8", (1,))), "allowed are numbers"),
    "dates": (lambda: model(npy("<M8[s]")), "allowed are numbers"),
    "no dtype": (lambda: model(npy("what")), "cannot be trusted"),
    "absurd shape": (
        lambda: model(npy(shape=(10**12,))),
        r"shape \(1000000000000,\) of float64 but holds 16",
    ),
    "overflowing shape": (lambda: model(npy(shape=(2**62, 2**62))), "but holds 16 bytes"),
    "absurd shape of nothing": (lambda: model(npy("<U0", (10**12,), b"")), "allowed are"),
    "absurd empty shape": (lambda: model(npy(shape=(0, 2**62, 2**62), data=b"")), "cannot be trusted"),
    "negative shape": (lambda: model(npy(shape=(-1, -2))), "declares shape"),
    "many axes": (lambda: model(npy(shape=(1,) * 99, data=bytes(8))), "cannot be trusted"),
    "too little data": (lambda: model(npy(shape=(3,))), "but holds 16 bytes"),
    "too much data": (lambda: model(npy(shape=(1,))), "but holds 16 bytes"),
    "not npy": (lambda: model(b"hello, world"), "cannot be trusted"),
    "nested header": (lambda: model(b"\x93NUMPY\x01\x00\x00\x0f" + b"(" * 3840), "cannot be trusted"),
    "long header": (lambda: model(b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535), "cannot be trusted"),
    "npy version 2": (lambda: model(b"\x93NUMPY\x02\x00" + npy()[8:]), "unknown npy version"),
    "odd booleans": (lambda: model(npy("|b1", (2,), b"\x01\x02")), "neither 0 nor 1"),
    "odd characters": (lambda: model(npy(">U1", (1,), b"\x00\x11\x00\x00")), "characters that do not exist"),
    "deflate bomb": (
        lambda: packed(
            ("meta.json", document()),
            ("x.npy", npy(shape=(2**23,), data=bytes(2**26))),
            compression=zipfile.ZIP_DEFLATED,
        ),
        "'meta.json' is compressed",
    ),
    "overlap bomb": (overlapping, "its members claim 16025600 bytes|[Oo]verlapped"),
    "two of a name": (
        lambda: packed(("meta.json", document()), ("x.npy", npy()), ("x.npy", npy())),
        "two members named 'x.npy'",
    ),
    "path up": (lambda: model(name="../x.npy", arrays=["../x"]), r"a member named '\.\./x\.npy'"),
    "absolute path": (lambda: model(name="/x.npy", arrays=["/x"]), "a member named '/x.npy'"),
    "no array": (lambda: model(name="x.txt"), "a member named 'x.txt'"),
    "array lost": (
        lambda: model(arrays=["x", "y"]),
        r"holds the arrays \['x'\], but meta.json lists \['x', 'y'\]",
    ),
    "newer": (
        lambda: packed(("meta.json", document(schema=7, meta=None))),
        "by streamem 9.9 with schema 7; this streamem reads schemas up to 1; upgrade streamem",
    ),
    "newer, from nobody": (lambda: model(schema=7, versions=3), "unknown version"),
    "other kind": (lambda: model(kind="checkpoint"), "is a checkpoint, not a model; pass a file"),
    "no meta": (lambda: model(meta=None), "lacks one of kind, meta"),
    "no schema": (lambda: model(schema=True), "tells no schema"),
    "no dictionary": (lambda: packed(("meta.json", b"[]")), "tells no schema"),
    "no JSON": (lambda: packed(("meta.json", b"{")), "cannot be trusted"),
    "nested JSON": (lambda: packed(("meta.json", b"[" * 100_000)), "recursion"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    build, text = HOSTILE[name]
    path = tmp_path / "m.npz"
    path.write_bytes(build())
    if not text:
        assert read_archive(path, "model").arrays["x"].tolist() == [0, 0]
        return
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=text) as raised:
            read_archive(path, "model")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(raised.value)
    assert peak_bytes < 4e6


def test_document_claiming_to_be_huge(tmp_path: Path) -> None:
    (tmp_path / "m.npz").write_bytes(packed(("meta.json", b" " * (2**24 + 1))))
    with pytest.raises(ModelFileError, match="claims 16777217 bytes"):
        read_archive(tmp_path / "m.npz", "model")


def test_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"not a regular file; a model is one \.npz file"):
        read_archive(tmp_path, "model")


def test_flipped_byte_in_the_data_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "m.npz", 0.5)
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(0.5).tobytes()) + 800] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"Bad CRC-32 for file 'x\.npy'"):
        read_archive(path, "model")


def test_damage_anywhere_is_found_or_harmless(tmp_path: Path) -> None:
    """Every byte flipped, and the file cut at every byte: refused, or in a field (a date) that changes nothing."""
    path = tmp_path / "m.npz"
    write_archive(path, "model", {"a": 1}, {"x": np.arange(3.0), "y": np.array(["ä"]), "z": np.zeros((0, 2))})
    sound, content = read_archive(path, "model"), path.read_bytes()
    mask = random.Random(0)
    damaged = [
        bytes([*content[:at], content[at] ^ mask.randint(1, 255), *content[at + 1 :]]) for at in range(len(content))
    ]
    refused = 0
    for bad in damaged + [content[:length] for length in range(len(content))]:
        path.write_bytes(bad)
        try:
            read = read_archive(path, "model")
        except ModelFileError:
            refused += 1
        else:
            assert read.meta == sound.meta
            assert [(name, array.dtype, array.tobytes()) for name, array in read.arrays.items()] == [
                (name, array.dtype, array.tobytes()) for name, array in sound.arrays.items()
            ]
    assert refused > 1.7 * len(content)
