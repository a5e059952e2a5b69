"""Buying, and looking how far a payment is."""

from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse

from django_shop.models import Order
from django_shop.payments import tape


class TooMuch(Exception):
    """More than the customer has."""


def buy(request: HttpRequest) -> JsonResponse:
    """Both are there, or neither: what is raised in the block takes the payment back with the order."""
    number, amount = int(request.POST["number"]), int(request.POST["amount"])
    try:
        with transaction.atomic():
            Order.objects.create(number=number, amount=amount)
            made = tape.effect.delay(
                "bank.wire", {"amount": amount}, business_key=f"order-{number}", session=connection
            )
            if amount > 1000:
                raise TooMuch
    except TooMuch:
        return JsonResponse({"error": "that is more than you have"}, status=402)
    return JsonResponse({"payment": made.id}, status=201)


def payment(request: HttpRequest, key: str) -> JsonResponse:
    """How far a payment is."""
    effect = tape.get(key)
    if effect is None:
        return JsonResponse({"error": "no such payment"}, status=404)
    return JsonResponse({"status": effect.status})
