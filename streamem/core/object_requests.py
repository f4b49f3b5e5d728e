"""Parts of objects of a store, many at once through obstore: whole, of the version that was seen, or an error.

obstore itself would make failed requests again without a word; here that is done once, and counted (`retrying`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock, current_thread, main_thread
from typing import Any

from streamem.core.addresses import remedy_of
from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.redaction import redacted
from streamem.core.retrying import ShortBodyError, patiently, patiently_awaited, pauses_of_a_request, wait_after
from streamem.machine.importing import import_whole

MOST_REQUESTS = 32
"""Of one call at once."""

LISTED_AT_ONCE = 1000
KEPT_STORES = 16


@dataclass(frozen=True)
class Piece:
    """What to read of an object.

    Attributes
    ----------
    key : within the store
    first, stop : bytes first … stop − 1; of first alone, that many last bytes where it is negative; else all
    etag : that it must still have; "" where nobody knows it
    """

    key: str
    first: int | None = None
    stop: int | None = None
    etag: str = ""


@dataclass(frozen=True, eq=False)
class Fetched:
    """What was read.

    Attributes
    ----------
    content : the bytes, where obstore put them: a copy of a megabyte takes as long as its statistics
    first : where they begin in the object
    etag, size : of the object; "" where its store tells no ETag
    """

    content: bytes | memoryview
    first: int
    etag: str
    size: int


def fetch_all(store: Any, pieces: Sequence[Piece], where: str) -> list[Fetched | None]:
    """Pieces of objects, asked for at once; None of those of which there is no object.

    Parameters
    ----------
    store : obstore's
    where : names the store in errors, as an address

    Raises
    ------
    SourceChangedError : an object is another than it was, or shorter
    SourceError : the store refuses, or fails for longer than `retrying` has patience
    """
    if len(pieces) == 1 and current_thread() is not main_thread():  # which waits all the same, and can be interrupted
        return [_one_here(patient(store), pieces[0], where)]
    loop = import_whole("fsspec.asyn").get_loop()
    return asyncio.run_coroutine_threadsafe(_all(patient(store), pieces, where), loop).result()


def listed(store: Any, prefix: str) -> Iterator[Any]:
    """What a store says of all objects below a prefix, in its order; after a failure it goes on behind the last one.

    While a page is looked at, the next one is asked for.
    """
    pages = _pages(store, prefix)
    page = next(pages, None)
    yield from page or ()
    ahead = ThreadPoolExecutor(1, "streamem-list")  # the first page alone is often all that is wanted
    try:
        coming = ahead.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = ahead.submit(next, pages, None)
            yield from page
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)


def _pages(store: Any, prefix: str) -> Iterator[Any]:
    last, pauses = None, pauses_of_a_request()
    while True:
        try:
            for page in import_whole("obstore").list(
                store, prefix=prefix or None, offset=last, chunk_size=LISTED_AT_ONCE
            ):
                yield page
                last, pauses = page[-1]["path"] if page else last, pauses_of_a_request()
            return
        except Exception as error:
            wait_after(error, pauses)


def begin_fetch(store: Any, piece: Piece, where: str) -> Future[Fetched | None]:
    """A piece of an object, asked for while something else is done; errors as `fetch_all` has them."""
    loop = import_whole("fsspec.asyn").get_loop()
    return asyncio.run_coroutine_threadsafe(_one(patient(store), piece, where, asyncio.Semaphore(1)), loop)


async def _all(store: Any, pieces: Sequence[Piece], where: str) -> list[Fetched | None]:
    few = asyncio.Semaphore(MOST_REQUESTS)
    asked = [asyncio.ensure_future(_one(store, piece, where, few)) for piece in pieces]
    try:
        return await asyncio.gather(*asked)
    finally:
        for request in asked:  # those that are still made, once one has failed
            request.cancel()


async def _one(store: Any, piece: Piece, where: str, few: asyncio.Semaphore) -> Fetched | None:
    try:
        return await patiently_awaited(partial(_asked, store, piece, where, few))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _told(error, piece, where) from None


def _one_here(store: Any, piece: Piece, where: str) -> Fetched | None:
    try:
        return patiently(partial(_asked_here, store, piece, where))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _told(error, piece, where) from None


def _told(error: Exception, piece: Piece, where: str) -> SourceError:
    """What went wrong, in our own words."""
    if isinstance(error, SourceError):
        return error
    name = redacted(f"{where}{piece.key}")
    if type(error).__name__ == "PreconditionError":
        return SourceChangedError(f"{name} was rewritten since the data was opened; EM needs the same rows")
    return SourceError(f"cannot read {name}: {shortened(error)}")


async def _asked(store: Any, piece: Piece, where: str, few: asyncio.Semaphore) -> Fetched:
    async with few:
        found = await _got(store, piece)
        return _whole(piece, where, found, await found.bytes_async())


def _asked_here(store: Any, piece: Piece, where: str) -> Fetched:
    found = _got_here(store, piece)
    return _whole(piece, where, found, found.bytes())


async def _got(store: Any, piece: Piece) -> Any:
    obstore = import_whole("obstore")
    try:
        return await obstore.get_async(store, piece.key, options=_options(piece))
    except Exception as error:
        if not _wants_a_place(error, piece):
            raise
    placed = _from_the_end(piece, await obstore.head_async(store, piece.key))
    return await obstore.get_async(store, piece.key, options=_options(placed))


def _got_here(store: Any, piece: Piece) -> Any:
    obstore = import_whole("obstore")
    try:
        return obstore.get(store, piece.key, options=_options(piece))
    except Exception as error:
        if not _wants_a_place(error, piece):
            raise
    placed = _from_the_end(piece, obstore.head(store, piece.key))
    return obstore.get(store, piece.key, options=_options(placed))


def _wants_a_place(error: Exception, piece: Piece) -> bool:
    """Whether a store knows no last bytes of an object: Azure."""
    from_the_end = piece.first is not None and piece.stop is None
    return from_the_end and type(error).__name__ == "NotSupportedError"


def _from_the_end(piece: Piece, told: Any) -> Piece:
    """The last bytes by their place in an object of such a size, as long as it is the same one."""
    assert piece.first is not None
    first = max(0, told["size"] + piece.first)
    return Piece(piece.key, first, told["size"], piece.etag or told["e_tag"] or "")


def _options(piece: Piece) -> dict[str, Any] | None:
    options: dict[str, Any] = {"if_match": piece.etag} if piece.etag else {}
    if piece.first is not None:
        options["range"] = {"suffix": -piece.first} if piece.stop is None else (piece.first, piece.stop)
    return options or None


def _whole(piece: Piece, where: str, found: Any, body: Any) -> Fetched:
    """What came, if it is all that was asked for."""
    meta, content = found.meta, memoryview(body)
    first, stop = (0, meta["size"]) if piece.first is None else found.range
    if piece.stop is not None and meta["size"] < piece.stop:
        raise SourceChangedError(
            f"{redacted(where + piece.key)} was truncated since the data was opened: it has {meta['size']} bytes, and "
            f"{piece.first} to {piece.stop} are needed"
        )
    if len(content) != stop - first:
        raise ShortBodyError(f"{len(content)} of {stop - first} bytes came")
    return Fetched(content, first, meta.get("e_tag") or "", meta["size"])


def shortened(error: BaseException) -> str:
    """What an error of a store says, in short, with the remedy where it is known."""
    text = redacted(" ".join(f"{type(error).__name__}: {error}".partition("\n\nDebug source")[0].split()))
    return text + remedy_of(text)


class _Patient:
    """Stores as they are, except that they leave it to us to make requests again; equal ones once a process."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        self._lock = Lock()

    def of(self, store: Any) -> Any:
        """The store to read from; as it is where its user has said how it shall make requests again."""
        args, settings = store.__getnewargs_ex__()
        if args or settings.get("retry_config") is not None:
            return store
        # A provider of credentials is equal to itself only; it is kept here, so that its place in memory stays its own.
        key = f"{type(store)} {sorted(settings.items(), key=lambda item: item[0])!r}"
        with self._lock:
            if key not in self._known:
                self._known[key] = type(store)(**settings, retry_config={"max_retries": 0}), settings
                if len(self._known) > KEPT_STORES:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key][0]


_PATIENT = _Patient()


def patient(store: Any) -> Any:
    """A store that fails at once, with the settings of another, and open connections that are used again."""
    return _PATIENT.of(store) if hasattr(store, "__getnewargs_ex__") else store
