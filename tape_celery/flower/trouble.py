"""What people are told when something is wrong: a status, a title and a sentence, and never where in the code."""

from __future__ import annotations

from tornado.web import HTTPError

from tape_celery.errors import (
    ConfigurationError,
    IntentUncertain,
    NoSuchEffect,
    NoSuchProposal,
    NoSuchRun,
    StoreUnavailable,
    UnknownConnector,
)

NOT_THERE = (NoSuchEffect, NoSuchProposal, NoSuchRun, UnknownConnector)
FOREIGN = "That did not come from a page of ours. Open the page again, and do there what you want to do."


class Refused(HTTPError):
    """A request that is not served; ``told`` is what a person is told."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(status, told.replace("%", "%%"))
        self.told = told


def trouble(status: int, error: BaseException | None, acting: bool) -> tuple[int, str, str]:
    """What ``error`` means to whoever asked for a page, or did something (``acting``)."""
    if isinstance(error, NOT_THERE):
        return 404, "Not there", f"{error}."
    if isinstance(error, StoreUnavailable | IntentUncertain):
        doubt = (
            "Whether the act was done is not known: look before you repeat it." if acting else "Nothing was changed."
        )
        return 503, "The store does not answer", f"{doubt} The log of this process says more."
    if isinstance(error, ConfigurationError):
        return 503, "The store cannot be read", "The log of this process says why."
    if isinstance(error, Refused):
        return status, {400: "Not understood", 404: "Not there"}.get(status, "Not allowed"), error.told
    known = {
        400: ("Not understood", "The request is not one that a form of this page makes."),
        403: ("Not allowed", FOREIGN),
        404: ("Not there", "There is no such page."),
        405: ("Not allowed", "This page takes no such request."),
    }
    return (status, *known.get(status, ("Something went wrong", "The log of this process says what.")))
