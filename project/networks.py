"""Which network an address stands for: both halves limit rates by it."""

import ipaddress
from functools import lru_cache

LONGEST_ADDRESS = 64
"""Characters of an address that are read; it has 45 at most, and what comes after them is a zone, or no address."""


def network(host: str) -> str:
    """Returns the address to count a client by: of IPv6 the /64, which is one customer's."""
    return _network(host[:LONGEST_ADDRESS])


@lru_cache(maxsize=4096)
def _network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # A socket without addresses, or what a proxy passed on unseen.
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)  # And not the text, which may have a zone: another one for each request.
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
