"""A shop on FastAPI and SQLAlchemy: an order and its payment are one transaction."""
