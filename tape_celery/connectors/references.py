"""Secrets by reference: where the value of a header is to be found, looked up anew for each call.

So what is configured may be read by anybody, and a secret that was rotated counts from the next call on, without a
restart. No message here shows more of a secret than where it should have been.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Mapping

from tape_celery.errors import SettingsError

Value = str | Callable[[], str]
"""A text; ``env:NAME`` or ``file:/path``, also after one word (``Bearer env:BANK_TOKEN``); or what returns the text."""

HEADER_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?")
_REFERENCE = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9_-]* )?(?P<kind>env|file):(?P<place>.*)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_BYTES = 65_536


class SecretUnavailable(Exception):
    """A reference led nowhere, or to what cannot be a header's value: nothing was sent."""


def is_reference(value: object) -> bool:
    """Whether ``value`` says where a text is, and is none itself."""
    return callable(value) or (isinstance(value, str) and _REFERENCE.fullmatch(value) is not None)


def check_reference(value: Value, what: str) -> None:
    """Refuse a reference that can never lead anywhere. Raises `SettingsError`; nothing is looked up."""
    if callable(value):
        if inspect.iscoroutinefunction(value):
            raise SettingsError(f"{what} must be a plain function, not a coroutine")
        return
    found = _REFERENCE.fullmatch(value)
    if found is None or (found["kind"] == "env" and not _VARIABLE.fullmatch(found["place"])):
        raise SettingsError(f"{what} must name an environment variable, as in env:BANK_TOKEN")
    if found["kind"] == "file" and (not os.path.isabs(found["place"]) or "\0" in found["place"]):
        raise SettingsError(f"{what} must name a file by its whole path, as in file:/run/secrets/bank")


def resolved(headers: Mapping[str, Value], seconds: float) -> dict[str, str]:
    """The values that these references lead to now. Raises `SecretUnavailable`, also when it took ``seconds`` or more:
    a function cannot be stopped, but what was claimed for the call may be over.
    """
    if not headers:
        return {}
    began = time.monotonic()
    values = {name: _resolved(value, f"the header {name}") for name, value in headers.items()}
    if time.monotonic() - began >= seconds:
        raise SecretUnavailable(f"to look up the headers {', '.join(values)} took {seconds:g} s or more")
    return values


def _resolved(value: Value, what: str) -> str:
    before = ""
    if callable(value):
        place = "what its function returned"
        try:
            text = value()
        except Exception as error:  # noqa: BLE001 - it is the app's, and its message may hold anything
            raise SecretUnavailable(f"{what}: its function raised {type(error).__name__}") from None
    else:
        found = _REFERENCE.fullmatch(value)
        if found is None:  # cannot be: it was checked
            raise SecretUnavailable(f"{what} is no reference")
        before, place = found["before"] or "", value[len(found["before"] or "") :]
        text = _of_environment(found["place"], what) if found["kind"] == "env" else _of_file(found["place"], what)
    if not isinstance(text, str):
        raise SecretUnavailable(f"{what}: {place} is no text")
    text = text.strip()
    if not text:  # a file that is just being written, too
        raise SecretUnavailable(f"{what}: {place} is empty")
    if not HEADER_VALUE.fullmatch(text):
        raise SecretUnavailable(f"{what}: {place} is no ASCII text without control characters")
    return before + text


def _of_environment(variable: str, what: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise SecretUnavailable(f"{what}: the environment variable {variable} is not set") from None


def _of_file(path: str, what: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SecretUnavailable(f"{what}: file {path} cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise SecretUnavailable(f"{what}: file {path} is larger than {_MOST_BYTES} bytes")
    return content.decode("latin-1")
