"""What of an upstream's words is stored: fields whose names mean a secret are masked before anything is written. Pure.

What is masked here is lost, so it takes more for it than on pages (`tape_celery.redaction`): ``token_type``,
``tokens``, ``idempotency_key`` and ``business_key`` stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from tape_celery.redaction import MASK, cut_out

SECRET_FIELDS = (
    *("password", "passwd", "passphrase", "secret", "token", "auth", "authorization", "cookie", "credential"),
    *("credentials", "api_key", "access_key", "secret_key", "private_key", "signing_key", "encryption_key"),
    *("session_key", "hmac_key", "card_number", "pan", "cvv", "cvc", "iban", "iban_number"),
    *("password_hash", "secret_value", "token_value"),
)
"""A field is masked whose name ends with one of these, however it is spelled: ``access_token``, ``X-Api-Key``,
``clientSecret``."""

_LEAST = 8
"""How many characters a masked value has at least for it to be cut out of the words around it."""
_SURE = 5
"""Letters of a name from which on it is found also where no new word is seen to begin: ``accesstoken``."""
_LONGEST_NAME = 100
_NAMES = 2000
_PLAIN = frozenset({str, int, float, bool, type(None)})
_LARGE = 10**100
"""Python refuses to write out numbers beyond all bounds."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\x00-\x7f]+")
_NAME = re.compile(
    r"""(?P<quote>\\*["'])(?P<quoted>[^"'\\\s]{1,100})(?P=quote)\s*:\s*|\b(?P<plain>[A-Za-z][\w.-]{1,60})="""
)
_VALUE = re.compile(
    r"""[\[{(].*|[bBrRuU]{0,2}(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)"""
    r"""|(?P<end>\\+["']).*?(?:(?P=end)|\Z)|[^\s,;&}\]"'<>]*""",
    re.DOTALL,
)


class Masks:
    """One rule: ``fields`` are the ends of names, in words."""

    def __init__(self, fields: Iterable[str] = SECRET_FIELDS) -> None:
        self._ends = tuple(end for field in fields if (end := "".join(_words(field))))
        self._known = lru_cache(_NAMES)(self._means_secret)

    def fields(self, body: Any) -> Any:
        """``body``, in lists and dicts, with the values of such fields masked, whatever they hold."""
        if isinstance(body, dict):
            return {name: MASK if self._hides(name) else self.fields(value) for name, value in body.items()}
        return [self.fields(value) for value in body] if isinstance(body, list) else body

    def touch(self, body: Any) -> bool:
        """Whether `fields` would change ``body``; true also for what is no plain JSON, and may be anything."""
        if type(body) is dict:
            return any(
                self._hides(name) or (type(value) not in _PLAIN and self.touch(value)) for name, value in body.items()
            )
        if type(body) is list:
            return any(type(value) not in _PLAIN and self.touch(value) for value in body)
        return type(body) not in _PLAIN

    def words(self, body: Any) -> Any:
        """``body``, which explains an error, masked as by `fields` and by `text`, and without what was masked."""
        if not self._ends:
            return body
        secrets = {text for text in self._secrets(body, False) if len(text) >= _LEAST}
        return self._words(self.fields(body), secrets)

    def text(self, text: str) -> str:
        """``text`` without the values of such fields, where it is written like JSON, a form or a query."""
        if not self._ends or ("=" not in text and ":" not in text):
            return text
        kept, at = [], 0
        for found in _NAME.finditer(text):
            if found.start() < at or not self._hides(found["quoted"] or found["plain"]):
                continue
            value, quote = _VALUE.match(text, found.end()), found["quote"] or ""
            kept += [text[at : found.end()], quote, MASK, quote]
            at = value.end() if value else found.end()
        return "".join([*kept, text[at:]])

    def _words(self, body: Any, secrets: set[str]) -> Any:
        if isinstance(body, str):
            return self.text(cut_out(secrets, body))
        if isinstance(body, dict):
            return {name: self._words(value, secrets) for name, value in body.items()}
        return [self._words(value, secrets) for value in body] if isinstance(body, list) else body

    def _secrets(self, body: Any, hidden: bool) -> Iterator[str]:
        if isinstance(body, dict):
            for name, value in body.items():
                yield from self._secrets(value, hidden or self._hides(name))
        elif isinstance(body, list):
            for value in body:
                yield from self._secrets(value, hidden)
        elif hidden and (isinstance(body, str) or (type(body) is int and abs(body) < _LARGE)):
            yield str(body)

    def _hides(self, name: Any) -> bool:
        return isinstance(name, str) and (self._known if len(name) <= _LONGEST_NAME else self._means_secret)(name)

    def _means_secret(self, name: str) -> bool:
        words = _words(name)
        letters = "".join(words)
        begins = {len("".join(words[place:])) for place in range(len(words))}
        return any(letters.endswith(end) and (len(end) >= _SURE or len(end) in begins) for end in self._ends)


@lru_cache(200)
def masks_of(fields: tuple[str, ...]) -> Masks:
    """The rule of a connector with these ``mask_fields``."""
    return Masks(fields)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]
