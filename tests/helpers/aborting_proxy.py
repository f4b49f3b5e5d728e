"""A proxy before librdkafka's mock that tells its clients which transactions were aborted, as Kafka's brokers do.

The mock writes the marks of commits and aborts, and leaves the list of aborted transactions in its answers to fetches
empty, so that clients take their records for good ones. It answers one batch at a time: whoever reads the partition
through the proxy first shows it the marks, and from then on it tells. For one partition, and fetches of version 4,
whose layout is fixed.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

FETCH, VERSION = 1, 4
HEAD = 61
"""Bytes of a batch before its first record."""
CONTROL, ABORT = 0x20, 0


class AbortingProxy:
    """Listens on `port` until `close`, and forwards to a broker of this machine."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: list[socket.socket] = []
        self._begun: dict[int, int] = {}  # by producer, the first offset of its transaction
        self._aborted: dict[int, tuple[int, int]] = {}  # by the offset of the mark: producer, first offset
        self.told = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._server, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker_port))
                self._open += [client, broker]
                fetches: set[int] = set()
                for source, sink, edits in ((client, broker, False), (broker, client, True)):
                    threading.Thread(target=self._pump, args=(source, sink, fetches, edits), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, fetches: set[int], edits: bool) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            while head := stream.read(4):
                frame = stream.read(struct.unpack(">i", head)[0])
                if edits:
                    (number,) = struct.unpack_from(">i", frame)
                    frame = self._with_aborted(frame) if number in fetches else frame
                else:
                    key, version, number = struct.unpack_from(">hhi", frame)
                    if key == FETCH:
                        assert version == VERSION
                        fetches.add(number)
                sink.sendall(struct.pack(">i", len(frame)) + frame)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _with_aborted(self, frame: bytes) -> bytes:
        out, at = bytearray(frame[:12]), 12  # number of the request, throttling, how many topics
        for _ in range(struct.unpack_from(">i", frame, 8)[0]):
            size = 2 + struct.unpack_from(">h", frame, at)[0]
            out += frame[at : at + size + 4]
            partitions = struct.unpack_from(">i", frame, at + size)[0]
            at += size + 4
            for _ in range(partitions):
                out += frame[at : at + 22]  # number, error, end, last stable offset
                listed, start = struct.unpack_from(">i", frame, at + 22)[0], at + 26
                start += 16 * max(0, listed)
                length = max(0, struct.unpack_from(">i", frame, start)[0])
                aborted = self._aborted_in(frame[start + 4 : start + 4 + length])
                self.told += len(aborted)
                out += struct.pack(">i", len(aborted)) + b"".join(struct.pack(">qq", *one) for one in aborted)
                out += frame[start : start + 4 + length]
                at = start + 4 + length
        return bytes(out + frame[at:])

    def _aborted_in(self, batches: bytes) -> list[tuple[int, int]]:
        """Producer and first offset of each transaction, known as aborted, of which something may be in the batches."""
        at, ends = 0, []
        while at + HEAD <= len(batches):
            first, size = struct.unpack_from(">qi", batches, at)
            attributes, after = struct.unpack_from(">hi", batches, at + 21)
            (producer,) = struct.unpack_from(">q", batches, at + 43)
            ends += [first, first + after]
            if not attributes & CONTROL:
                self._begun.setdefault(producer, first)
            elif producer in self._begun:
                start = self._begun.pop(producer)
                # Length, attributes, times, offset, length of the key: one byte each; then version and kind of mark.
                if struct.unpack_from(">hh", batches, at + HEAD + 5)[1] == ABORT:
                    self._aborted[first] = producer, start
            at += 12 + size
        known = self._aborted.items() if ends else ()
        return [(producer, start) for mark, (producer, start) in known if start <= ends[-1] and mark >= ends[0]]
