"""Bare Django that imports FastAPI, SQLAlchemy and asyncpg, and does nothing with them: no start of ours can be below.

Served for the cold start only.
"""

import gc

gc.disable()  # As asgi.py does while it imports.

import asyncpg  # noqa: E402, F401
import fastapi  # noqa: E402, F401
import sqlalchemy.ext.asyncio  # noqa: E402, F401

from benchmarks.peers.django_site.asgi import application  # noqa: E402

gc.enable()

__all__ = ["application"]
