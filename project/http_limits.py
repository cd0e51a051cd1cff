"""Bounds on what one request may carry."""

MAX_HEADER_LENGTH = 16 * 1024
"""Bytes of the name and value of one header (then 431): above the cookies, and the tokens with many groups, in use."""
