"""Profiles of Amazon's command line: who one is to a store, in ``~/.aws/credentials`` and ``~/.aws/config``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamem.core.errors import SourceError
from streamem.machine.importing import import_whole

FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
"""Where profiles are, by the variables of the environment that name other files."""

KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "token",
}
ANOTHER_WAY = ("sso_session", "sso_start_url", "role_arn", "credential_process", "credential_source")
"""Settings of profiles whose keys somebody else has to be asked for."""

WHO = ("access_key_id", "secret_access_key", "session_token", "credential_provider", "skip_signature")
"""Options by which a user says who one is, without ``aws_``."""

KEPT = timedelta(minutes=5)
"""How long keys are used before the files are read again: other programs renew them there."""


@dataclass(frozen=True)
class Profile:
    """The credentials of a profile, as obstore asks for them; what travels to other machines is its name alone.

    Attributes
    ----------
    name : of the profile
    """

    name: str

    def __call__(self) -> dict[str, Any]:
        """Keys, and until when they are used.

        Raises
        ------
        SourceError : there is no such profile, or its keys cannot be had
        """
        found = settings_of(self.name)
        if all(name in found for name in ("aws_access_key_id", "aws_secret_access_key")):
            keys: dict[str, Any] = {ours: found.get(theirs) for theirs, ours in KEYS.items()}
            return {**keys, "expires_at": datetime.now(UTC) + KEPT}
        if not (way := [name for name in ANOTHER_WAY if name in found]):
            raise SourceError(f"the AWS profile {self.name!r} has neither keys nor another way to get some")
        if find_spec("boto3") is None:
            raise SourceError(f"the AWS profile {self.name!r} gets its keys by {way[0]}: pip install 'streamem[boto3]'")
        session = import_whole("boto3").Session(profile_name=self.name)
        keys = import_whole("obstore.auth.boto3").Boto3CredentialProvider(session)()
        return {**keys, "expires_at": datetime.now(UTC) + KEPT}

    def as_options(self) -> dict[str, str]:
        """Keys as options of a store, for libraries that take text alone."""
        return {SAME.get(name, name): value for name, value in self().items() if isinstance(value, str)}


SAME = {"token": "session_token"}


def with_profile(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of S3 with a profile in them as a provider of credentials, with its region and endpoint.

    That is the one named by ``profile``; else, where neither options nor the environment say who one is, the one of
    ``AWS_PROFILE``, and the one named ``default`` if it has keys.

    Raises
    ------
    SourceError : the profile that was named is not there
    """
    given = dict(options)
    name = given.pop("profile", None)
    plain = {key.removeprefix("aws_") for key in given}
    if name is None and (not plain.isdisjoint(WHO) or "AWS_ACCESS_KEY_ID" in os.environ):
        return given
    named = name or os.environ.get("AWS_PROFILE")
    found = settings_of(named) if named else _profiles().get("default", {})
    if not named and "aws_access_key_id" not in found:
        return given
    told = {"region": found.get("region"), "endpoint": found.get("endpoint_url")}
    unsaid = [key for key in told if key not in plain and f"AWS_{key.upper()}" not in os.environ]
    given |= {key: told[key] for key in unsaid if told[key] is not None}
    return given if not plain.isdisjoint(WHO) else {**given, "credential_provider": Profile(named or "default")}


def settings_of(name: str) -> dict[str, str]:
    """What the files say of a profile.

    Raises
    ------
    SourceError : nothing
    """
    profiles = _profiles()
    if name not in profiles:
        known = f"there are {', '.join(sorted(profiles))}" if profiles else "no profile is there"
        raise SourceError(f"no AWS profile {name!r} in {' or '.join(map(str, _paths()))}; {known}")
    return profiles[name]


def _paths() -> list[Path]:
    return [Path(os.environ.get(variable, usual)).expanduser() for variable, usual in FILES.items()]


def _profiles() -> dict[str, dict[str, str]]:
    """Settings of all profiles; those of the credentials file before those of the other."""
    found: dict[str, dict[str, str]] = {}
    for path in reversed(_paths()):
        if path.is_file():
            for name, settings in _read(path, path.stat().st_mtime_ns).items():
                found[name] = found.get(name, {}) | settings
    return found


@lru_cache(4)
def _read(path: Path, changed_ns: int) -> dict[str, dict[str, str]]:
    parser = ConfigParser(interpolation=None, default_section="", strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (Error, UnicodeDecodeError):  # whose words would show the line, and with it a key
        raise SourceError(f"{path} is no file of AWS profiles: a line of it cannot be read") from None
    return {name.removeprefix("profile ").strip(): dict(parser[name]) for name in parser.sections()}
