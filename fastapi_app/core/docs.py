"""What is said about the API: its OpenAPI document, and Swagger UI from this process's own static files."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from fastapi_app.core.problems import Problem

SWAGGER_UI = "/static/drf_spectacular_sidecar/swagger-ui-dist"


class DocumentedAPI(FastAPI):
    """A FastAPI whose OpenAPI document has the schema of problems, to which every route's ``responses`` refer."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            _, problems = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
            super().openapi()["components"]["schemas"].update(problems["$defs"])
        return super().openapi()


def add_docs(api: FastAPI) -> None:
    """Serve ``docs`` below ``api``, and lead its root there."""

    @api.get("/", include_in_schema=False)
    async def root(request: Request) -> RedirectResponse:
        return RedirectResponse(request.url_for("docs").path)

    @api.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        site = request.scope.get("app_root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{request.scope['root_path']}{api.openapi_url}",
            title=f"{api.title}: API",
            swagger_js_url=f"{site}{SWAGGER_UI}/swagger-ui-bundle.js",
            swagger_css_url=f"{site}{SWAGGER_UI}/swagger-ui.css",
            swagger_favicon_url=f"{site}{SWAGGER_UI}/favicon-32x32.png",
        )
