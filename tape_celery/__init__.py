"""Side effects that must not happen twice and must not get lost, on Celery."""

from tape_celery import connectors
from tape_celery.authoring import effect, tape_effect
from tape_celery.records import EffectStatus, Semantics
from tape_celery.tape import Tape

__all__ = ["EffectStatus", "Semantics", "Tape", "connectors", "effect", "tape_effect"]
__version__ = "0.1.0"
