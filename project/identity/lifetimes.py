"""How long what the issuer makes is good, in seconds."""

ACCESS_TOKEN_TTL_S = 5 * 60
"""Short, because the API verifies without asking."""
ID_TOKEN_TTL_S = 5 * 60
"""A client looks at it once, when it receives it."""
REFRESH_TOKEN_TTL_S = 14 * 24 * 60 * 60
"""Without a refresh; each refresh starts it anew."""
REFRESH_GRACE_S = 10
"""How long a refresh token that was just exchanged is taken once more: parallel tabs, an answer that got lost."""
JWKS_TTL_S = 5 * 60
"""How long a verifier may keep the public keys; a new key is published for as long before it signs."""
SLOW_DOWN_S = 5
"""What is added to the interval of a device that asks too often (RFC 8628, section 3.5)."""
UNUSED_CLIENT_TTL_S = 30 * 24 * 60 * 60
"""How long a client that registered itself is kept without a log-in."""
