"""What is said about the API: its OpenAPI document, and Swagger UI from this process's own static files."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from fastapi_app.core.problems import Problem
from fastapi_app.core.security import Requires
from project.config import API_DOCS_CLIENT_ID, config
from project.scopes import SCOPES

SWAGGER_UI = "/static/drf_spectacular_sidecar/swagger-ui-dist"
OAUTH2_REDIRECT_PATH = "/docs/oauth2-redirect"
"""Below the API, where the issuer sends the browser back to."""

SAME_ORIGIN = {"Cross-Origin-Opener-Policy": "same-origin"}
"""As Django's log-in page has it: the window in which people log in reaches back to the page that opened it only while
every page of the two has the same policy."""

# Without a host (OpenAPI 3.1, section 4.6): they hold wherever the page is shown. Swagger UI resolves them against the
# page, not the server, so that they must begin at the root, and with the prefix below which the service is reached.
SITE = urlsplit(config.base_url).path
AUTHORIZATION_URL, TOKEN_URL = f"{SITE}/o/authorize/", f"{SITE}/o/token/"

SECURITY_SCHEMES = {
    "oauth2": {
        "type": "oauth2",
        "description": "Log in here (authorization code with PKCE, RFC 7636).",
        "flows": {
            "authorizationCode": {
                "authorizationUrl": AUTHORIZATION_URL,
                "tokenUrl": TOKEN_URL,
                "scopes": {scope: rule.description for scope, rule in SCOPES.items()},
            }
        },
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token (RFC 9068), or an API key (tdm_...).",
    },
}


class DocumentedAPI(FastAPI):
    """A FastAPI whose OpenAPI document has the schema of problems, and the scopes that each operation demands."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            _, problems = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
            document = super().openapi()
            document["components"]["schemas"].update(problems["$defs"])
            document["components"]["securitySchemes"] = SECURITY_SCHEMES
            for route in self.routes:
                if isinstance(route, APIRoute) and (demands := list(_demands(route.dependant))):
                    scopes = sorted(set[str]().union(*(demand.scopes for demand in demands)))
                    for method in route.methods or ():
                        operation = document["paths"].get(route.path_format, {}).get(method.lower(), {})
                        operation["security"] = [{"oauth2": scopes}, {"bearer": []}]
        return super().openapi()


def _demands(dependant: Dependant) -> Iterator[Requires]:
    """What the dependencies of a route demand of its caller, at any depth."""
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Requires):
            yield dependency.call
        yield from _demands(dependency)


def add_docs(api: FastAPI) -> None:
    """Serve ``docs`` below ``api``, and lead its root there."""

    @api.get("/", include_in_schema=False)
    async def root(request: Request) -> RedirectResponse:
        return RedirectResponse(request.url_for("docs").path)

    @api.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        site = request.scope.get("app_root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{request.scope['root_path']}{api.openapi_url}",
            title=f"{api.title}: API",
            swagger_js_url=f"{site}{SWAGGER_UI}/swagger-ui-bundle.js",
            swagger_css_url=f"{site}{SWAGGER_UI}/swagger-ui.css",
            swagger_favicon_url=f"{site}{SWAGGER_UI}/favicon-32x32.png",
            oauth2_redirect_url=f"{request.scope['root_path']}{OAUTH2_REDIRECT_PATH}",
            init_oauth={
                "clientId": API_DOCS_CLIENT_ID,
                "usePkceWithAuthorizationCodeGrant": True,
                "scopes": " ".join(SCOPES),
            },
        )
        page.headers.update(SAME_ORIGIN)
        return page

    @api.get(OAUTH2_REDIRECT_PATH, include_in_schema=False)
    async def oauth2_redirect() -> HTMLResponse:
        page = get_swagger_ui_oauth2_redirect_html()
        page.headers.update(SAME_ORIGIN)
        return page
