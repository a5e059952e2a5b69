"""What the shop remembers."""

from django.db import models


class Order(models.Model):
    """What somebody has bought."""

    number = models.IntegerField(primary_key=True)
    amount = models.IntegerField()
