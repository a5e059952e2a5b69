"""Run it: ``uvicorn fastapi_shop.main:api``, and a worker: ``celery -A fastapi_shop.main:app worker``."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from celery import Celery
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tape_celery import Tape

DATABASE = os.environ.get("SHOP_DATABASE", "postgresql+psycopg://localhost/shop")
BROKER = os.environ.get("SHOP_BROKER", "redis://localhost:6379/0")

app = Celery("shop", broker=BROKER)
tape = Tape(app, store_url=DATABASE, connectors=["fastapi_shop.bank"])
engine = create_async_engine(DATABASE)


class Base(DeclarativeBase):
    """The shop's own tables, in the database that tape_celery's are in."""


class Order(Base):
    """What somebody has bought."""

    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int]


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """The tables are there while the shop is open."""
    await asyncio.to_thread(tape.migrate)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


api = FastAPI(lifespan=lifespan)


class Bought(BaseModel):
    """The body of a request to buy."""

    number: int
    amount: int


@api.post("/orders", status_code=201)
async def buy(bought: Bought) -> dict[str, Any]:
    """Both are there, or neither: what is raised in the block takes the payment back with the order."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Order(number=bought.number, amount=bought.amount))
        payment = await tape.effect.adelay(
            "bank.wire", {"amount": bought.amount}, business_key=f"order-{bought.number}", session=session
        )
        if bought.amount > 1000:
            raise HTTPException(402, "that is more than you have")
    return {"payment": payment.id}


@api.get("/payments/{key}")
async def payment(key: str) -> dict[str, Any]:
    """How far a payment is."""
    effect = await asyncio.to_thread(tape.get, key)
    if effect is None:
        raise HTTPException(404, "no such payment")
    return {"status": effect.status, "external_ref": effect.external_ref}
