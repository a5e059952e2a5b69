"""What nobody could ever resolve is refused, unless the caller takes it upon himself."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, connectors, effect
from tape_celery.errors import UnsafeEffect
from tests.state.stage import Stage

MODULE = """
from tape_celery import connectors

class Blind:
    name = "blind"
    def dispatch(self, effect): ...

connectors.register(Blind())
"""


def delay(stage: Stage, **keywords: Any) -> Any:
    return stage.tape.effect.delay("scripted", {"amount": 1}, **keywords)


def blinded(stage: Stage) -> None:
    stage.connector.can_observe = stage.connector.can_compensate = False


def test_without_a_key_a_look_or_an_inverse_it_is_refused_and_nothing_recorded(stage: Stage) -> None:
    blinded(stage)
    with pytest.raises(UnsafeEffect, match="Give a business_key, or allow_unsafe=True"):
        delay(stage)
    assert stage.tape.effects() == []


@pytest.mark.parametrize(
    "keywords",
    [{"business_key": "b-1"}, {"allow_unsafe": True}, {"semantics": "idempotent"}, {"semantics": "observe_only"}],
    ids=lambda keywords: next(iter(keywords)),
)
def test_one_way_to_resolve_it_is_enough(stage: Stage, keywords: dict[str, Any]) -> None:
    blinded(stage)
    assert stage.get(delay(stage, **keywords).id)


@pytest.mark.parametrize("can", ["can_observe", "can_compensate"])
def test_a_connector_that_can_look_or_undo_is_enough(stage: Stage, can: str) -> None:
    blinded(stage)
    setattr(stage.connector, can, True)
    assert stage.get(delay(stage).id)


@pytest.mark.parametrize("own", ["status_check", "compensate"])
def test_a_status_check_or_an_inverse_of_the_effect_is_enough(stage: Stage, own: str) -> None:
    blinded(stage)
    options: dict[str, Any] = {own: lambda record: None}
    stage.tape.app.set_current()

    @effect(connector="scripted", name=f"tests.unsafe.{own}", **options)
    def wire() -> dict:  # type: ignore[type-arg]
        return {"amount": 1}

    assert stage.get(wire.delay().id)


def test_a_producer_that_never_ran_a_connector_judges_by_its_module(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.delay` imports ``tape_connectors`` where it has to know."""
    (tmp_path / "blind_connectors.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("producer", broker="memory://", set_as_current=False)
    tape = Tape(app, store_url=str(stage.tape.settings.store_url), connectors=["blind_connectors"])
    assert "blind" not in connectors.names()
    with pytest.raises(UnsafeEffect, match="'blind'"):
        tape.effect.delay("blind", {"amount": 1})
    assert isinstance(sys.modules.pop("blind_connectors"), ModuleType)
    tape.database.close()


def test_a_connector_that_this_process_does_not_know_is_not_judged(stage: Stage) -> None:
    """What it can, nobody can say here: the effect is recorded, and waits for a worker that knows it."""
    handle = stage.tape.effect.delay("elsewhere", {"amount": 1})
    assert handle.status == "PENDING"
