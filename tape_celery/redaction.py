"""What people may see of a request, a response or an error: fields whose names say that they hold a secret are masked.

It goes by names alone. What is masked in one place is also cut out of the words around it: an upstream that refuses a
token likes to say which one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

DEFAULT = ("auth", "token", "secret", "password", "cookie", "key", "pan", "cvv", "iban")
"""The names of fields that are masked have one of these anywhere in them, in large or small letters."""

MASK = "•••"
LEAST = 4
"""How many characters a masked text has at least for it to be cut out of others: a shorter one is in any word."""


class Redaction:
    """The rule of one installation: ``words`` are looked for in the names of fields."""

    def __init__(self, words: Iterable[str] = DEFAULT) -> None:
        self._words = tuple(word.lower() for word in words)

    def mask(self, body: Any) -> Any:
        """``body``, which is what JSON can hold, with the values of such fields masked, whatever they hold."""
        if isinstance(body, dict):
            return {name: MASK if self._hides(name) else self.mask(value) for name, value in body.items()}
        return [self.mask(value) for value in body] if isinstance(body, list | tuple) else body

    def secrets(self, *bodies: Any) -> frozenset[str]:
        """The texts and numbers that `mask` hides in ``bodies``, as far as they are long enough to be told apart."""
        return frozenset(text for body in bodies for text in self._secrets(body, False) if len(text) >= LEAST)

    def _hides(self, name: str) -> bool:
        lower = str(name).lower()
        return any(word in lower for word in self._words)

    def _secrets(self, body: Any, hidden: bool) -> Iterable[str]:
        if isinstance(body, dict):
            for name, value in body.items():
                yield from self._secrets(value, hidden or self._hides(name))
        elif isinstance(body, list | tuple):
            for value in body:
                yield from self._secrets(value, hidden)
        elif hidden and body is not None and not isinstance(body, bool):
            yield str(body)


def cut_out(secrets: Iterable[str], text: str) -> str:
    """``text`` without any of ``secrets``, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
