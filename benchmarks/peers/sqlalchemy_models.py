"""The table, engine and sessions as SQLAlchemy's documentation for asyncio has them; for FastAPI and Litestar."""

import datetime

from sqlalchemy import BigInteger, DateTime, FetchedValue, String
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.peers.common import DATABASE_URL, POOL_SIZE


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Base(DeclarativeBase):
    """What the table belongs to."""


class User(Base):
    """The product's table of users."""

    __tablename__ = "accounts_user"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    display_name: Mapped[str] = mapped_column(String(150), server_default=FetchedValue())
    is_active: Mapped[bool] = mapped_column(server_default=FetchedValue())
    is_staff: Mapped[bool] = mapped_column(server_default=FetchedValue())
    created_at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), server_default=FetchedValue())
    updated_at: Mapped[datetime.datetime] = mapped_column(
        DateTime(timezone=True), server_default=FetchedValue(), onupdate=now
    )


engine = create_async_engine(
    make_url(DATABASE_URL).set(drivername="postgresql+asyncpg"), pool_size=POOL_SIZE, max_overflow=0
)
new_session = async_sessionmaker(engine, expire_on_commit=False)
