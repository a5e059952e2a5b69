"""An app's own task, and an effect that has its name."""

from celery import shared_task

from tape_celery import effect


@shared_task(name="twice.named")
def own(text: str) -> None:
    """The app's."""


@effect(connector="bank", business_key=lambda text: text, name="twice.named")
def letter(text: str) -> dict[str, str]:
    """The effect."""
    return {"text": text}
