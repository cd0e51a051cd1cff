"""The tables that Django's migrations made, as SQLAlchemy sees them."""

import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_app.core.types import UtcDateTime, now


class Base(DeclarativeBase):
    """What every table below belongs to."""


EMAIL_IS_UNIQUE = sa.UniqueConstraint("email", name="accounts_user_email_unique")


class User(Base):
    """accounts.User."""

    __tablename__ = "accounts_user"
    __table_args__ = (EMAIL_IS_UNIQUE,)

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254))
    display_name: Mapped[str] = mapped_column(sa.String(150), server_default=sa.FetchedValue())
    password: Mapped[str] = mapped_column(sa.String(128), server_default=sa.FetchedValue())
    is_active: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.FetchedValue())
    is_staff: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.FetchedValue())
    is_superuser: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.FetchedValue())
    last_login: Mapped[datetime.datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime.datetime] = mapped_column(UtcDateTime, server_default=sa.FetchedValue())
    updated_at: Mapped[datetime.datetime] = mapped_column(UtcDateTime, server_default=sa.FetchedValue(), onupdate=now)
