"""The API's few pages, for people: one skeleton, and what each may load (Content-Security-Policy) beside it."""

from collections.abc import Mapping
from html import escape

from starlette.responses import HTMLResponse


def html_page(title: str, body: str, *, head: str = "", headers: Mapping[str, str]) -> HTMLResponse:
    """A page of this title. ``head`` and ``body`` are HTML; ``headers`` are to hold the page's policy."""
    page = f"""\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{escape(title)}</title>{head}
</head>
<body>{body}
</body>
</html>
"""
    return HTMLResponse(page, headers=headers)
