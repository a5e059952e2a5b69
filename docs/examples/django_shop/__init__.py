"""A shop on Django: an order and its payment are one transaction."""
