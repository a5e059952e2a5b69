"""Every error of tape_celery, in one tree.

TapeError
├── ConfigurationError        this process is set up wrongly
│   ├── SettingsError             a setting has a value that cannot work
│   ├── SchemaMismatch            the store's schema is older or newer than the code, or missing
│   ├── ConnectorImportError      a module of ``tape_connectors`` cannot be imported
│   ├── MissingExtra              an optional dependency is not installed
│   ├── UnknownEncryptionKey      a body is encrypted, and this process has not the key of it
│   ├── TaskNameTaken             the app has a task of its own by the name of an effect
│   └── NoTape                    ``tape_effect`` cannot tell which Tape is meant
├── InvalidIntent             what was asked for cannot be recorded; nothing was
│   ├── PayloadTooLarge
│   ├── UnsafeEffect              nothing could ever resolve an UNKNOWN of it
│   ├── RunClosed                 its run was compensated or cancelled
│   ├── RepeatedRequest           the same request twice in one task execution, without keys
│   ├── KeyConflict               the key belongs to another request
│   ├── WrongSession              ``session=`` is no transaction on this store
│   └── ChordNeedsBackend         no result backend that could be told of a chord's part
├── QueueFull                 so many effects of its connector wait that no more may; nothing was recorded
├── IntentUncertain           the answer to COMMIT was lost: the intent may exist
├── StoreUnavailable          the store cannot be reached or did not answer in time
│   └── CommitUncertain           the answer to COMMIT was lost (inside the store; callers resolve it)
├── UnknownConnector          no connector of that name is registered in this process
├── NotAllowed                the row's state does not allow this act; it shows the row
│   ├── AlreadyReissued           it has a successor already, which is named
│   ├── StaleView                 the row has moved since the person who decides looked at it
│   └── NeedsSecondPerson         one person may not do it alone
├── NoSuchEffect              no row has that key
├── NoSuchRun                 no effect is in that run
├── NoSuchProposal            nobody proposed an act under that key
├── ExportFailed              the file of an export cannot be written
│   └── ExportTargetExists        there is a file already, and it was left as it is
├── OutcomeError              what ``handle.get()`` raises when there is no response to return
│   ├── EffectFailed
│   ├── EffectCancelled
│   ├── EffectStuck
│   ├── ResponseMismatch          it is CONFIRMED, and its response is not of the type that was asked for
│   ├── EffectPruned              it was CONFIRMED, and its response is gone
│   └── EffectTimeout             (also a `TimeoutError`) not decided within the time given
└── KitError                  (also an `AssertionError`) what ``tape_celery.testing`` has to say to a test
    ├── ScriptError               a script has a step that cannot be played
    ├── StoreInUse                a test would get a store that holds effects already
    ├── NotAtRest                 ``drain()`` does not come to an end
    └── ConnectorUnfit            a connector said what it must not say

Each can be built again from its ``args``: pickle, `multiprocessing` and the result backends of Celery do that. So
``args`` are what the class takes, plain strings wherever they can be, and not the message; `str` makes the message.
"""

from __future__ import annotations

from collections.abc import Iterable


class TapeError(Exception):
    """Base of all errors of tape_celery."""

    def __repr__(self) -> str:
        """With the message: Celery's logs, and its errors of chords, show no more of an error than this."""
        return f"{type(self).__name__}({str(self)!r})"


class ConfigurationError(TapeError):
    """This process is set up wrongly; nothing was sent or recorded."""


class SettingsError(ConfigurationError):
    """A setting has a value that cannot work; the message shows the value seen."""


class SchemaMismatch(ConfigurationError):
    """The store's schema is missing, older or newer than this code; the message names both revisions."""


class ConnectorImportError(ConfigurationError):
    """A module named in ``tape_connectors`` cannot be imported."""


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what = what
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.what} needs an optional dependency: pip install 'tape-celery[{self.extra}]'"


class UnknownEncryptionKey(ConfigurationError):
    """A body is encrypted, and no key of this process opens it; the row is as it was, and nothing was sent.

    The key of it is not among ``tape_encryption_keys``, or the text was written for another row, or was changed.
    """

    def __init__(self, key: str, column: str, key_id: str) -> None:
        super().__init__(key, column, key_id)
        self.key = key
        """The row's."""
        self.column = column
        self.key_id = key_id

    def __str__(self) -> str:
        return (
            f"{self.column} of {self.key} is encrypted under the key {self.key_id!r}: that is not among the "
            "tape_encryption_keys of this process, or the text was not written for this row"
        )


class TaskNameTaken(ConfigurationError):
    """The app has a task of its own by the name of an effect, so canvas would run that instead; rename one."""

    def __init__(self, app: str | None, name: str) -> None:
        super().__init__(app, name)
        self.app = app
        self.name = name

    def __str__(self) -> str:
        return (
            f"Celery app {self.app or '(unnamed)'} has a task of its own called {self.name!r}, and an effect has that "
            "name; rename one of them, or give the effect another name="
        )


class NoTape(ConfigurationError):
    """``tape_effect`` cannot tell which `Tape` is meant; the message lists the candidates."""


class InvalidIntent(TapeError, ValueError):
    """What was asked for cannot be recorded, and nothing was; the message, ``args[0]``, shows what was seen."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class PayloadTooLarge(InvalidIntent):
    """The request is larger than ``tape_max_payload_bytes``."""


class UnsafeEffect(InvalidIntent):
    """A non-idempotent effect with nothing that could ever resolve an UNKNOWN."""


class RunClosed(InvalidIntent):
    """The run was compensated or cancelled: nothing is recorded into it any more."""

    def __init__(self, message: str, run_id: str, status: str) -> None:
        super().__init__(message, run_id, str(status))
        self.run_id = run_id
        self.status = status


class RepeatedRequest(InvalidIntent):
    """The same request twice in one task execution without keys: a retry could not tell which is meant."""


class KeyConflict(InvalidIntent):
    """An idempotency key or a held business key belongs to an effect with another request."""

    def __init__(self, message: str, effect_key: str) -> None:
        super().__init__(message, effect_key)
        self.effect_key = effect_key
        """The effect that has the key."""


class WrongSession(InvalidIntent):
    """``session=`` is no transaction that the intent could be part of: another database, or no transaction."""


class ChordNeedsBackend(InvalidIntent):
    """The app has no result backend that could be told, and told again, how a part of a chord ended."""


class QueueFull(TapeError):
    """As many effects of a connector wait to be sent as may (`Tape.limit`): nothing was recorded, and later it may be.

    ``connector``; ``limit``, how many may wait; ``count``, how many did, counted to 1,000 above the limit; ``asked``,
    how many more there were to be.
    """

    def __init__(self, connector: str, limit: int, count: int, asked: int = 1) -> None:
        super().__init__(connector, limit, count, asked)
        self.connector = connector
        self.limit = limit
        self.count = count
        self.asked = asked

    def __str__(self) -> str:
        more = "1 more was" if self.asked == 1 else f"{self.asked} more were"
        return (
            f"{self.count} effects of {self.connector!r} wait to be sent, of {self.limit} that may; {more} asked for, "
            "and nothing was recorded: try again when some have been sent"
        )


class StoreUnavailable(TapeError):
    """The store cannot be reached, or did not answer in time; the unit of work was rolled back."""


class CommitUncertain(StoreUnavailable):
    """The answer to COMMIT was lost: what was written may or may not be there."""


class CommitNotDurable(CommitUncertain):
    """The disk did not confirm a COMMIT (SQLite): what reading back shows may go with the power, or stay."""


class IntentUncertain(TapeError):
    """The answer to COMMIT was lost and reading back failed too: the intent may exist.

    Submitting again under ``idempotency_key`` is safe: it meets the same effect.
    """

    def __init__(self, effect_key: str, idempotency_key: str) -> None:
        super().__init__(effect_key, idempotency_key)
        self.effect_key = effect_key
        self.idempotency_key = idempotency_key

    def __str__(self) -> str:
        return (
            f"the store did not say whether effect {self.effect_key} was recorded; submit again with "
            f"idempotency_key={self.idempotency_key!r}: it meets the same effect if it was"
        )


class UnknownConnector(TapeError, LookupError):
    """No connector of that name is registered in this process."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        super().__init__(name, self.known)

    def __str__(self) -> str:
        listed = ", ".join(self.known) or "none"
        return f"no connector named {self.name!r} is registered in this process (registered: {listed})"


class NoSuchEffect(TapeError, LookupError):
    """No effect or obligation has that key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"no effect or obligation has the key {self.key!r}"


class NoSuchRun(TapeError, LookupError):
    """No effect is in that run, and nobody has closed it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"no effect is in run {self.run_id!r}"


class NoSuchProposal(TapeError, LookupError):
    """No proposal has that key."""

    def __init__(self, proposal_key: str) -> None:
        super().__init__(proposal_key)
        self.proposal_key = proposal_key

    def __str__(self) -> str:
        return f"no proposal has the key {self.proposal_key!r}"


class ExportFailed(TapeError):
    """The file of an export cannot be written; the message says which and why."""


class ExportTargetExists(ExportFailed):
    """There is a file at the target already; nothing of it was touched."""


class NotAllowed(TapeError):
    """The row's state does not allow what was asked; the row is as it was."""

    def __init__(self, key: str, status: str, act: str, why: str = "") -> None:
        super().__init__(key, str(status), act, why)
        self.key = key
        self.status = status
        self.act = act
        self.why = why

    def __str__(self) -> str:
        return f"{self.key} is {self.status}: {self.act} is not allowed" + (f" ({self.why})" if self.why else "")


class AlreadyReissued(NotAllowed):
    """An effect is issued again once at most, and this one was; ``successor`` is the key of the effect that it became.

    Whoever loses a race to reissue gets this too.
    """

    def __init__(self, key: str, status: str, successor: str) -> None:
        super().__init__(key, status, "reissue", f"it was reissued as {successor}")
        self.args = (key, str(status), successor)
        self.successor = successor


class StaleView(NotAllowed):
    """The row is not what the person looked at who decided; nothing was done. ``version`` is the row's as it is now."""

    def __init__(self, key: str, status: str, act: str, seen_version: int, version: int) -> None:
        super().__init__(
            key, status, act, f"it was decided on version {seen_version}, and it is at {version}; look again"
        )
        self.args = (key, str(status), act, seen_version, version)
        self.seen_version = seen_version
        self.version = version


class NeedsSecondPerson(NotAllowed):
    """One person may not do it alone; nothing was done. `Tape.propose` it, and another one confirms it."""


class OutcomeError(TapeError):
    """``handle.get()`` has no response to return; ``effect_key`` and ``status`` say why."""

    def __init__(self, effect_key: str, status: str, reason: str = "") -> None:
        super().__init__()
        # Not by the line above: to an OSError, which a TimeoutError is, these would be the number and name of a file.
        self.args = (effect_key, str(status), reason)
        self.effect_key = effect_key
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"effect {self.effect_key} is {self.status}" + (f": {self.reason}" if self.reason else "")


class EffectFailed(OutcomeError):
    """The effect did not happen."""


class EffectCancelled(OutcomeError):
    """The effect was cancelled, or expired, before it was sent."""


class EffectStuck(OutcomeError):
    """Nobody knows whether the effect happened; it waits for a person."""


class ResponseMismatch(OutcomeError):
    """The effect is CONFIRMED and stays so; its response cannot be read as the type that was asked for.

    ``tape.get(effect_key).response`` has it as it came.
    """


class EffectPruned(OutcomeError):
    """The effect was CONFIRMED long ago and has been pruned: its response is gone, its keys stay taken."""


class EffectTimeout(OutcomeError, TimeoutError):
    """The effect was not decided within the time given; it goes on."""


class KitError(TapeError, AssertionError):
    """What `tape_celery.testing` has to say to a test."""


class ScriptError(KitError):
    """A script has a step that cannot be played; the message shows it."""


class StoreInUse(KitError):
    """The store that a test would get holds effects already; nothing in it was touched."""


class NotAtRest(KitError):
    """``drain()`` does not come to an end; the message and ``due`` list what is still due."""

    def __init__(self, why: str, due: Iterable[str]) -> None:
        self.why = why
        self.due = list(due)
        """A line for each row."""
        super().__init__(why, self.due)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.why}; still due:", *self.due])


class ConnectorUnfit(KitError):
    """A connector said what it must not say; the message is the matrix of `connector_suite`."""
