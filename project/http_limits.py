"""Bounds on what one request may carry, so that no request costs more than its size explains.

They are checked before any work is done on the request: those of its head by the root
(``project.middleware.HeadLimits``) or, while it has no end, by the server's protocol; those of its body by the code
that reads it (docs/decisions/0019-bounds.md).
"""

MAX_HEADER_BYTES = 64 * 1024
"""Bytes of all header names and values of a request together (then 431): four headers of the greatest length."""
MAX_HEADER_LINES = 100
"""Header lines of a request (then 431). A browser behind several proxies sends about 40."""
MAX_HEADER_LENGTH = 16 * 1024
"""Bytes of the name and value of one header (then 431): above the cookies, and the tokens with many groups, in use."""
MAX_TARGET_LENGTH = 8 * 1024
"""Bytes of the request target, which is path and query (then 414). RFC 9110, section 4.1, asks for 8,000 or more."""

MAX_LIST_PARTS = 256
"""Commas and semicolons in one header, or semicolons in ``Cookie`` (then 431): above the 180 members of ``baggage``."""
MAX_QUERY_PARAMETERS = 200
"""Parameters in a query (then 400): as many as the largest page has items."""

MAX_JSON_DEPTH = 64
"""Levels of arrays and objects in a JSON body (then 400)."""
MAX_JSON_MEMBERS = 10_000
"""Members of all objects and elements of all arrays of a JSON body together (then 400)."""

MAX_FAULTS = 100
"""Faults of a request that one answer lists."""
MAX_FAULT_LENGTH = 1000
"""Characters of one text in an error's answer, because it may repeat what the request had in it."""

MAX_CACHED_TEXT = 256
"""Characters of a header that may be the key of a cache. A longer header is read again each time."""
