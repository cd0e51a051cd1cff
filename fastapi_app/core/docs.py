"""What is said about the API: an OpenAPI document for each version, and Swagger UI from this process's own files."""

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from fastapi_app.core.html_pages import html_page
from fastapi_app.core.problems import MEDIA_TYPE, Problem
from fastapi_app.core.versions import Version, scopes_of
from project.config import API_DOCS_CLIENT_ID, API_DOCS_REDIRECT_PATH, config
from project.scopes import SCOPES

SWAGGER_UI = "/static/drf_spectacular_sidecar/swagger-ui-dist"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # As Django's log-in page has it: the window in which people log in reaches back to the page that opened it only
    # while every page of the two has the same policy.
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of the pages here."""

SCRIPT = """\
const { dataset } = document.currentScript;
SwaggerUIBundle({
  url: dataset.document,
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  oauth2RedirectUrl: new URL(dataset.redirect, location).href,
}).initOAuth({
  clientId: dataset.client,
  scopes: dataset.scopes,
  usePkceWithAuthorizationCodeGrant: true,
});
"""
"""A file of its own, because the policy lets no script run that stands in the page."""

DESCRIPTION = """\
Every error is a problem (RFC 9457) whose type is the address of a page about it; all are listed at
[{base}/api/problems]({base}/api/problems).
"""

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
        "description": "An access token (RFC 9068) or an API key (tdm_...) with the scopes that oauth2 names here.",
    },
}


def openapi_document(api: FastAPI, version: Version, *, server: str) -> dict[str, Any]:
    """The document of ``version``, served at the address ``server``; the same for the same routes, to the letter."""
    routes = [
        route for route in api.routes if isinstance(route, APIRoute) and route.path.startswith(f"/{version.name}/")
    ]
    document = get_openapi(
        title=api.title,
        version=version.number,
        description=DESCRIPTION.format(base=config.base_url),
        contact={"name": api.title, "url": config.base_url},
        servers=[{"url": server}],
        tags=api.openapi_tags,
        routes=routes,
    )
    for route in routes:
        _add_security(document, route)
    document["paths"] = {
        path.removeprefix(f"/{version.name}"): operations for path, operations in document["paths"].items()
    }
    _add_components(document)
    return document


def _add_security(document: dict[str, Any], route: APIRoute) -> None:
    scopes = scopes_of(route)
    for method in (route.methods or ()) if route.include_in_schema and scopes is not None else ():
        document["paths"][route.path_format][method.lower()]["security"] = [{"oauth2": scopes}, {"bearer": []}]


def _add_components(document: dict[str, Any]) -> None:
    """Add what the routes refer to but do not declare, and put each example of a problem into one place."""
    _, problems = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
    components = document.setdefault("components", {})
    components["schemas"] = dict(sorted({**components.get("schemas", {}), **problems["$defs"]}.items()))
    components["securitySchemes"] = SECURITY_SCHEMES
    components["examples"] = found = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                examples = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
                found.update(examples)
                examples.update({name: {"$ref": f"#/components/examples/{name}"} for name in examples})
    components["examples"] = dict(sorted(found.items()))


def add_docs(api: FastAPI, versions: Sequence[Version]) -> None:
    """Serve the document and the page of each version; lead ``/``, ``/docs`` and ``/openapi.json`` to the newest."""
    for version in versions:
        _add_docs_of(api, version)
    newest = versions[-1].name

    async def lead_on(request: Request) -> RedirectResponse:
        root, path = request.scope["root_path"], request.scope["path"]
        page = path.removeprefix(root).strip("/") or "docs"
        return RedirectResponse(f"{root}/{newest}/{page}")

    async def script(_request: Request) -> Response:
        return Response(SCRIPT, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})

    for path in ("/", "/docs", "/openapi.json"):
        api.add_route(path, lead_on, include_in_schema=False)
    api.add_route("/docs.js", script, include_in_schema=False)
    api.add_route(API_DOCS_REDIRECT_PATH, _oauth2_redirect, include_in_schema=False)


def _add_docs_of(api: FastAPI, version: Version) -> None:
    @lru_cache(maxsize=4)
    def document(server: str) -> dict[str, Any]:
        return openapi_document(api, version, server=server)

    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(document(f"{request.scope['root_path']}/{version.name}"))

    async def docs(request: Request) -> HTMLResponse:
        return _swagger_ui(request, f"{api.title}: API {version.name}", f"/{version.name}/openapi.json")

    api.add_route(f"/{version.name}/openapi.json", openapi, include_in_schema=False)
    api.add_route(f"/{version.name}/docs", docs, include_in_schema=False)


def _swagger_ui(request: Request, title: str, document: str) -> HTMLResponse:
    root, files = _addresses(request)
    head = f"""
  <link rel="icon" href="{files}/favicon-32x32.png">
  <link rel="stylesheet" href="{files}/swagger-ui.css">"""
    body = f"""
  <div id="swagger-ui"></div>
  <script src="{files}/swagger-ui-bundle.js"></script>
  <script src="{root}/docs.js" data-document="{root}{document}" data-redirect="{root}{API_DOCS_REDIRECT_PATH}"
    data-client="{API_DOCS_CLIENT_ID}" data-scopes="{" ".join(SCOPES)}"></script>"""
    return html_page(title, body, head=head, headers=HEADERS)


async def _oauth2_redirect(request: Request) -> HTMLResponse:
    """Where the issuer sends the log-in window: it hands what it was given to the page that opened it."""
    _, files = _addresses(request)
    return html_page("Logged in", f'<script src="{files}/oauth2-redirect.js"></script>', headers=HEADERS)


def _addresses(request: Request) -> tuple[str, str]:
    """Where the API is, and where Swagger UI's files are, as attributes have it."""
    return escape(request.scope["root_path"]), escape(f"{request.scope.get('app_root_path', '')}{SWAGGER_UI}")
