"""The product's API under a root that does nothing but own the lifespan and mount it: what composing alone costs.

What ``asgi.py`` costs beyond this is its middleware: request ids, problems, hosts, limits, deadlines, headers.
"""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from benchmarks.peers.tandem_alone import lifespan, ping
from fastapi_app.app import create_api
from project.mounts import MountBeforeRouter

app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(MountBeforeRouter, "/api", create_api())],
    routes=[Route("/ping", ping)],
)
