"""The shop's own tasks."""

from celery import shared_task

from tape_celery import tape_effect


@shared_task(name="shop.order")
def order(number: int) -> None:
    """Pay for an order; the effect's key comes from the task's id."""
    tape_effect.delay("bank", {"number": number}, business_key=f"order-{number}")
