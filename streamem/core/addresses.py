"""Where data lie that are no files of this machine: an address, and the options by which its store is reached.

obstore is the client of object stores where it is installed: with 100 ms a request, 200 objects of 1.3 MB took it 1.3 s
and s3fs 8.1 (32 in flight). What it does not know goes to the file systems of fsspec.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from streamem.core.aws_profiles import Profile, with_profile
from streamem.core.errors import ParameterError, SourceError
from streamem.core.redaction import HIDDEN, redacted
from streamem.machine.importing import import_whole, uninterrupted

SCHEMES = {
    **{"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "https"},
    **dict.fromkeys(("az", "azure", "abfs"), "az"),
}
"""What obstore reaches, by the name of an address, and its own name for it."""

SAME = {
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
    "anon": "skip_signature",
    "endpoint_url": "endpoint",
    "region_name": "region",
}
"""Options of s3fs, and obstore's names of them."""

CLIENT_OPTIONS = frozenset(
    {"allow_http", "allow_invalid_certificates", "connect_timeout", "default_headers", "http1_only", "http2_only"}
    | {"pool_idle_timeout", "pool_max_idle_per_host", "proxy_url", "randomize_addresses", "timeout", "user_agent"}
)
WHOLE_OPTIONS = frozenset({"client_options", "retry_config", "credential_provider"})
STORE_SETTINGS = WHOLE_OPTIONS | {"config"}
NO_SECRETS = frozenset({"endpoint", "endpoint_url", "region", "profile"})
"""Options whose values messages may show."""
OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")


class Address(os.PathLike[str]):
    """An address of data in a store, such as ``s3://bucket/folder``, with the options that its store needs.

    Every estimator takes one where it takes a path. Options are shown nowhere.

    Parameters
    ----------
    text : ``s3://``, ``gs://``, ``az://``, ``https://`` or ``memory://`` (fsspec's, of this process), and what other
        file systems of fsspec know
    storage_options : settings of the store
        With obstore its names (``access_key_id``, ``secret_access_key``, ``region``, ``endpoint``, ``skip_signature``,
        ``timeout``; with or without ``aws_``) or those of s3fs (``key``, ``secret``, ``token``, ``anon``,
        ``endpoint_url``, ``profile``), and ``client_options``, ``retry_config``, ``credential_provider`` as obstore
        takes them. What is not given comes from the environment (``AWS_…``, ``GOOGLE_…``, ``AZURE_…``), and then from
        the profile that ``AWS_PROFILE`` names, or the one named default. An address that only fsspec knows: what its
        file system takes.

    Raises
    ------
    ParameterError : no address, or options that are no mapping of names

    Examples
    --------
    >>> from streamem import Address
    >>> Address("s3://bucket/rows.zarr", {"access_key_id": "me", "secret_access_key": "hidden"})
    Address('s3://bucket/rows.zarr', access_key_id=***, secret_access_key=***)
    """

    def __init__(self, text: str, storage_options: Mapping[str, Any] | None = None) -> None:
        if "://" not in text:
            raise ParameterError(f"{text!r} is no address such as s3://bucket/folder")
        if not isinstance(storage_options, Mapping | None):
            raise ParameterError(f"storage_options is a {type(storage_options).__name__}; pass a mapping of options")
        self.text, self.options = text, dict(storage_options or {})
        if wrong := [name for name in self.options if not (isinstance(name, str) and OPTION.fullmatch(name))]:
            raise ParameterError(f"storage_options has {len(wrong)} key(s) that are no names of options")

    def __fspath__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return redacted(self.text)

    def __repr__(self) -> str:
        told = "".join(f", {name}={HIDDEN}" for name in self.options)
        return f"Address({redacted(self.text)!r}{told})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and (self.text, self.options) == (other.text, other.options)

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        return self.text.partition("://")[0].lower()

    @property
    def bucket(self) -> str:
        """The bucket, container or host."""
        return self.text.partition("://")[2].partition("/")[0]

    @property
    def key(self) -> str:
        """The path within the bucket."""
        return self.text.partition("://")[2].partition("/")[2].rstrip("/")

    def at(self, text: str) -> Address:
        """Another address, reached with the same options."""
        return Address(text, self.options)

    def below(self, *parts: str) -> Address:
        """The address of something in this folder."""
        return self.at("/".join((self.text.rstrip("/"), *parts)))

    @property
    def is_known_to_obstore(self) -> bool:
        """Whether obstore reaches it, and is installed; what Arrow or fsspec read of an address itself is theirs."""
        return self.scheme in SCHEMES and not {"@", "?"} & set(self.text) and has_obstore()

    def object_store(self, whole: bool = False) -> Any:
        """obstore's store of the bucket; `whole`: of what lies below the address.

        Raises
        ------
        SourceError : options that obstore does not know, or credentials that are incomplete
        """
        url = f"{SCHEMES[self.scheme]}://{self.bucket}" + (f"/{self.key}" if whole and self.key else "")
        return self.reached(lambda: _store(url, _Frozen(self._sorted_options())))

    def file_system(self) -> tuple[Any, str]:
        """A file system of fsspec, which is obstore's where that reaches the address, and the path in it.

        Raises
        ------
        SourceError : no file system is installed for it, or it refuses the options
        """
        if self.is_known_to_obstore:
            store_of: Any = import_whole("obstore.fsspec").FsspecStore
            self.object_store()  # which says what is wrong with the options
            options = self._sorted_options()
            if self.scheme in ("http", "https"):
                return store_of(self.scheme, **options), self.text
            return store_of(SCHEMES[self.scheme], **options), f"{self.bucket}/{self.key}"
        with uninterrupted("fsspec.core"):
            from fsspec.core import url_to_fs

        found: tuple[Any, str] = self.reached(lambda: url_to_fs(self.text, **self.options))
        return found

    def reached(self, call: Callable[[], Any]) -> Any:
        """What a call to the store returns; its errors as `SourceError`, without the values of options."""
        try:
            return call()
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"cannot reach {self}: {self.told(error)}") from None

    def told(self, error: BaseException) -> str:
        """What an error of the store says, in short and without the values of options."""
        text = " ".join(f"{type(error).__name__}: {error}".partition("\n\nDebug source")[0].split())
        for name, value in self.options.items():
            if isinstance(value, str) and len(value) > 3 and name not in NO_SECRETS:
                text = text.replace(value, HIDDEN)
        if "Certificate" in str(error):  # obstore says it only where it tells its own insides
            text += "; its certificate is not trusted: pass allow_invalid_certificates=True if you trust the server"
        if isinstance(error, ImportError):
            text += "; pip install 'streamem[obstore]' reads s3://, gs://, az:// and https://"
        return redacted(text + remedy_of(text))

    @property
    def text_options(self) -> dict[str, str]:
        """Options as other libraries on Rust's object_store take them (Delta Lake, Lance): flat, all of them text."""
        known = self._sorted_options()
        if isinstance(asked := known.get("credential_provider"), Profile):
            known["config"] = known.get("config", {}) | asked.as_options()
        plain = {**known.get("config", {}), **known.get("client_options", {})}
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in plain.items()}

    def _sorted_options(self) -> dict[str, Any]:
        """Options as obstore takes them: those of the store, of the HTTP client, and whole ones."""
        given = {SAME.get(name, name): value for name, value in self.options.items()}
        if SCHEMES.get(self.scheme) == "s3":
            given = with_profile(given)
        whole = {name: given.pop(name) for name in WHOLE_OPTIONS & given.keys()}
        client = {name: given.pop(name) for name in CLIENT_OPTIONS & given.keys()}
        client |= whole.pop("client_options", None) or {}
        client = {name: _as_switch(value) for name, value in client.items()}
        endpoint = next((str(given[name]) for name in ("endpoint", "aws_endpoint") if name in given), "")
        if endpoint.startswith("http://") or self.scheme == "http":
            client.setdefault("allow_http", True)
        config = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
        return {**whole, **({"config": config} if config else {}), **({"client_options": client} if client else {})}


def remedy_of(text: str) -> str:
    """What helps against an error of a store, to be added to its words; "" where nothing is known."""
    provider = "pass a credential_provider in storage_options, which is asked for new ones"
    if "ExpiredToken" in text or "TokenRefreshRequired" in text:
        return f"; the credentials have expired: {provider}"
    if "performing HEAD" in text and "400 Bad Request" in text:  # an answer without words
        return f"; so answers a store whose credentials have expired: {provider}"
    return ""


def store_behind(filesystem: Any, path: str) -> tuple[Any, str] | None:
    """obstore's store of the bucket behind its file system of fsspec, and the key of a path in it; None of others."""
    if not type(filesystem).__module__.startswith("obstore.") or isinstance(filesystem.protocol, tuple):
        return None
    if filesystem.protocol not in SCHEMES.values() or filesystem.protocol in ("http", "https"):
        return None
    settings = {name: value for name, value in filesystem.storage_options.items() if name in STORE_SETTINGS}
    bucket, _, key = path.partition("/")
    return _store(f"{filesystem.protocol}://{bucket}", _Frozen(settings)), key


class _Frozen(dict[str, Any]):
    """Options as a key of a cache, which keeps stores and their open connections."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self)))


@lru_cache(maxsize=16)
def _store(url: str, options: _Frozen) -> Any:
    with uninterrupted("obstore.store"):
        from obstore.store import from_url  # type: ignore[import-not-found, unused-ignore]

    return from_url(url, **options)


def has_obstore() -> bool:
    """Whether obstore is installed."""
    return find_spec("obstore") is not None


def is_address(data: Any) -> bool:
    """Whether data, a path, is an address of a store."""
    return isinstance(data, Address) or (isinstance(data, str) and "://" in data)


def as_address(data: Any) -> Any:
    """An `Address` of a UPath that is no file of this machine, and the path of a ``file://`` address; else data."""
    if isinstance(data, str) and data[:7].lower() == "file://":
        parts = urlsplit(data)
        if parts.netloc not in ("", "localhost"):
            raise SourceError(f"{redacted(data)} names the machine {parts.netloc!r}; pass a path of this machine")
        return url2pathname(parts.path) if os.name == "nt" else unquote(parts.path)
    protocol = getattr(data, "protocol", None)
    if isinstance(protocol, str) and hasattr(data, "storage_options") and not isinstance(data, Address):
        return Address(str(data), data.storage_options) if "://" in str(data) else data
    return data


def address_of(data: Any) -> Address:
    """The address that a text or an `Address` is."""
    return data if isinstance(data, Address) else Address(os.fspath(data))


def _as_switch(value: Any) -> Any:
    """A text of the command line as a switch, where it is one."""
    known = {"true": True, "false": False}
    return known.get(value.lower(), value) if isinstance(value, str) else value
