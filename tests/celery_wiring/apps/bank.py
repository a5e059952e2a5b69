"""The connectors that a shop's workers import."""

from tape_celery.connectors import register
from tests.celery_wiring.upstream import Bank, Blind, ObservedBank

register(ObservedBank("bank"))
register(Bank("vault"))
register(Bank("till", compensation_semantics="idempotent"))
register(Blind("blind"))
register(ObservedBank("long", total_seconds=30.0))
register(Blind("patient", total_seconds=8.0))
register(ObservedBank("steady", total_seconds=8.0))
register(ObservedBank("brief", total_seconds=2.0))
register(ObservedBank("express", dispatch_queue="express"))
