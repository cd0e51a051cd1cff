"""The pages behind the ``type`` of a problem: ``/problems`` lists the types, ``/problems/{name}`` explains one."""

import base64
import hashlib
import json
from html import escape

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

from fastapi_app.core.errors import NotFound, registry
from fastapi_app.core.html_pages import html_page
from fastapi_app.core.problem_types import ProblemType
from fastapi_app.core.problems import example

STYLE = """
body { font: 1.05rem/1.6 system-ui, sans-serif; max-width: 44rem; margin: 8vh auto; padding: 0 1.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid #8884; }
dt { font-weight: 600; margin-top: 1rem; }
dd { margin: 0; }
pre { background: #8882; padding: 1rem; border-radius: .4rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_problem_pages(api: FastAPI) -> None:
    """Serve the pages of every type that ``registry`` knows."""

    async def problem_types(request: Request) -> HTMLResponse:
        return _page("Problems", _index(request.scope["root_path"]))

    async def problem_type(request: Request) -> HTMLResponse:
        problem = registry().get(request.path_params["name"])
        if problem is None:
            raise NotFound("There is no such type of problem.")
        return _page(problem.title, _explanation(problem, request.scope["root_path"]))

    api.add_route("/problems", problem_types, include_in_schema=False)
    api.add_route("/problems/{name}", problem_type, include_in_schema=False)


def _index(root: str) -> str:
    rows = "\n".join(
        f'<tr><td>{problem.status.value}</td><td><a href="{escape(root)}/problems/{problem.name}">'
        f"{escape(problem.title)}</a></td><td>{escape(problem.when)}</td></tr>"
        for problem in registry().values()
    )
    return f"""\
<h1>Problems</h1>
<p>Every error of this API is a problem (RFC 9457). Its <code>type</code> is the address of one of these pages.</p>
<table>
<thead><tr><th>Status</th><th>Problem</th><th>When</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>"""


def _explanation(problem: ProblemType, root: str) -> str:
    headers = "".join(
        f"<dt><code>{escape(name)}</code></dt><dd>{escape(meaning)}</dd>" for name, meaning in problem.headers.items()
    )
    return f"""\
<p><a href="{escape(root)}/problems">All problems</a></p>
<h1>{escape(problem.title)}</h1>
<p>{problem.status.value} {escape(problem.phrase)}</p>
<dl>
<dt>When it happens</dt><dd>{escape(problem.when)}</dd>
<dt>What to do</dt><dd>{escape(problem.cure)}</dd>
{headers}
</dl>
<h2>What it looks like</h2>
<pre>{escape(json.dumps(example(problem), indent=2))}</pre>"""


def _page(title: str, content: str) -> HTMLResponse:
    head = f"""
  <meta name="color-scheme" content="light dark">
  <link rel="icon" href="data:,">
  <style>{STYLE}</style>"""
    body = f"""
<main>
{content}
</main>"""
    return html_page(title, body, head=head, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})
