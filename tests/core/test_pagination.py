"""Links between pages, whatever the client wrote."""

import pytest
from starlette.requests import Request

from fastapi_app.core.pagination import PageOf, page_links


def test_links__a_path_with_more_than_letters__may_stand_in_a_header() -> None:
    request = Request({"type": "http", "path": "/teams/č >\r\nX: y/users", "query_string": b""})

    assert page_links(request, PageOf([], None)) == '</teams/%C4%8D%20%3E%0D%0AX%3A%20y/users>; rel="first"'


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("", "/users"),
        ("limit=5&sort=-email", "/users?limit=5&sort=-email"),
        ("cursor=old&limit=5", "/users?limit=5"),
        ('search=a>b"c&limit=5', "/users?search=a%3Eb%22c&limit=5"),
        ("search=caf%C3%A9+au&&", "/users?search=caf%C3%A9+au"),
    ],
)
def test_links__any_query__are_addresses_of_the_same_list(query: str, first: str) -> None:
    request = Request({"type": "http", "path": "/users", "query_string": query.encode()})

    assert page_links(request, PageOf([], None)) == f'<{first}>; rel="first"'
    joined = "&" if "?" in first else "?"
    assert page_links(request, PageOf([], "new")) == f'<{first}{joined}cursor=new>; rel="next", <{first}>; rel="first"'
