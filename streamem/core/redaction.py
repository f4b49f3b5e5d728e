"""Passwords, keys and tokens are taken out of whatever people may see: messages, logs, names, reports.

Used where such texts are made: `StreamemError` redacts its text, the logger "streamem" its records, `Schema` and
`FitReport` their origin, and model files name streams by their redacted name.
"""

from __future__ import annotations

import logging
import re

HIDDEN = "***"

_USER = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]+:/{1,2})"
    # (One slash is what a path makes of two.) What comes before the last @ of the authority; or before a later one,
    # if a / is part of a password.
    r"(?:[^\s/?#'\"<>]*@|[^\s'\"<>@/:]*:(?!\d{1,5}(?:[/?#,]|$))[^\s'\"<>]*@)"
)
_BARE_USER = re.compile(r"(?<![\w/@:.\-])[\w.+\-]+:[^\s/@'\"<>:,;(){}]+@(?=[\w\[][\w.\-\]:]*(?:$|[\s,;)'\"/:]))")
"""``user:password@host`` without a scheme, as in lists of brokers."""

_SECRET = re.compile(
    r"(?i)(?P<name>(?<![a-z0-9])[\w.\-]*?"
    r"(?:passw(?:or)?d|passphrase|pwd|secret(?:[_\-]?(?:access[_\-]?)?key)?|token(?:[_\-]?(?:key|secret|value))?"
    r"|api[_\-]?key|access[_\-]?key(?:[_\-]?id)?|account[_\-]?key"
    r"|private[_\-]?key|shared[_\-]?key|signature|credentials?|authorization|connection[_\-]?string|jaas[_.\-]?config"
    r"|(?<![a-z0-9])(?:sig|sas|auth|user(?:name)?info)(?![a-z0-9]))"
    r"|(?<=['\"])key(?=['\"]\s*:))"
    r"(?P<is>['\"]?\s*[=:]\s*(?:(?:Basic|Bearer)\s+)?)"
    r"(?P<value>b?\"[^\"]*\"|b?'[^']*'|[^\s&,;'\"(){}\[\]<>|]+)"
)
_AWS_KEY = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}\b")


def redacted(text: str) -> str:
    """A text with ``***`` instead of passwords and keys; text that was redacted already stays as it is.

    User and password of a URL, values of parameters and settings whose names speak of passwords, secrets, tokens, keys
    or signatures (``?password=``, ``X-Amz-Signature=``, ``'sasl.password': '…'``), and AWS access keys. Halves of
    surrogate pairs, as in names of files that are no UTF-8, become escapes: no file and no terminal takes them.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if ":/" in text:
        text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    if "@" in text:
        text = _BARE_USER.sub(f"{HIDDEN}@", text)
    if "=" in text or ":" in text:
        text = _SECRET.sub(rf"\g<name>\g<is>{HIDDEN}", text)
    return _AWS_KEY.sub(HIDDEN, text)


def presentable(cause: Exception) -> Exception | None:
    """What an error may be raised from: its cause, unless the text of that, which a traceback prints, has secrets."""
    return cause if redacted(str(cause)) == str(cause) else None


class RedactingFilter(logging.Filter):
    """Redacts records of the logger that it is added to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, without secrets."""
        message = record.getMessage()
        if (shown := redacted(message)) != message:
            record.msg, record.args = shown, ()
        return True
