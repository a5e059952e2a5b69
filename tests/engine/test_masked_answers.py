"""24: what an upstream says is masked before it is stored: in the row, its journal, its reason and the logs."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tape_celery.connectors import base
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.connectors.http import HTTPConnector
from tape_celery.errors import InvalidIntent
from tape_celery.redaction import MASK
from tests.state.stage import CONFIRMED, Stage

SECRET = "canary-31c4"
TOLD = {"access_token": SECRET, "id": "w-1", "idempotency_key": "k-1"}


@pytest.fixture
def stage(ready_sqlite_url: str) -> Any:
    made = Stage(ready_sqlite_url)
    yield made
    made.close()


def stored(stage: Stage) -> str:
    """Every byte of the store."""
    path = Path(str(make_url(stage.tape.settings.store_url).database))
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*")).decode("latin-1")


def test_a_response_is_kept_without_its_secrets(stage: Stage) -> None:
    """Of a call and of a look, also one that comes to nothing; references and keys are as the upstream gave them."""
    called = stage.record(business_key="called")
    stage.dispatch(called, DispatchResult("confirmed", "w-1", response=TOLD))
    looked = stage.record(business_key="looked")
    stage.dispatch(looked, DispatchResult("unknown", error={"message": f'{{"token": "{SECRET}"}}'}))
    stage.observe(looked, ObservationResult("stuck", response={"body": f"token={SECRET}"}))
    stage.move_time(120)
    stage.observe(looked, ObservationResult("confirmed", "w-2", response=TOLD))
    assert SECRET not in stored(stage)
    assert "idempotency_key" in stored(stage)
    for key, ref in ((called, "w-1"), (looked, "w-2")):
        assert stage.get(key).external_ref == ref
        assert stage.get(key).response == {"access_token": MASK, "id": "w-1", "idempotency_key": "k-1"}


def test_an_error_is_kept_without_its_secrets(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """In its fields, in its texts, in what a connector raised and in what it returned that is no result."""
    caplog.set_level(logging.DEBUG)
    told = {"body": json.dumps(TOLD), "api_key": SECRET, "message": f"{SECRET} is no key"}
    for number, bad in enumerate(
        [
            DispatchResult("failed", error=told),
            DispatchResult("failed", error={"message": f"password={SECRET}", "thing": object()}),
            RuntimeError(f"refused: token={SECRET}"),
            {"token": SECRET},
            DispatchResult("confirmed", response={"token": SECRET, "thing": object()}),
            DispatchResult("confirmed", response=OrderedDict(deep=({"token": SECRET},))),  # type: ignore[arg-type]
        ]
    ):
        stage.dispatch(stage.record(business_key=f"b-{number}"), bad)
    owed = stage.record(business_key="owed")
    stage.dispatch(owed, CONFIRMED)
    stage.tape.owe(owed, reason="returned", actor="ann")
    stage.connector.compensate = lambda _: CompensationResult("failed", error=told)  # type: ignore[assignment]
    stage.tape.compensate(stage.tape.obligations()[0].obligation_key)
    assert SECRET not in stored(stage)
    assert SECRET not in caplog.text
    assert stored(stage).count("is no key") >= 4, "what was wrong is still there"


def test_a_connector_says_which_fields_those_are(stage: Stage) -> None:
    """A vault of card tokens gives the app the token that it asked for; another masks account numbers as well."""
    stage.connector.mask_fields = ()  # type: ignore[attr-defined]
    plain = stage.record(business_key="plain")
    stage.dispatch(plain, DispatchResult("confirmed", response=TOLD))
    assert stage.get(plain).response == TOLD
    stage.connector.mask_fields = ["idempotency_key"]  # type: ignore[attr-defined]
    other = stage.record(business_key="other")
    stage.dispatch(other, DispatchResult("confirmed", response=TOLD))
    assert stage.get(other).response == TOLD | {"idempotency_key": MASK}


def test_what_is_no_list_of_names_is_refused() -> None:
    """One text is a mistake that would mask by its letters, or not at all."""
    for wrong in ("token", 7, [7], [""], {"token": 1}):
        with pytest.raises(InvalidIntent, match=r"mask_fields of connector 'bank' must be a list of names"):
            base.register(HTTPConnector("bank", "https://bank.example/", mask_fields=wrong))  # type: ignore[arg-type]
