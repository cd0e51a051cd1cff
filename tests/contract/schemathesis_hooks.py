"""What Schemathesis cannot know from a schema: which addresses exist, and so may be given as somebody's."""

import schemathesis
from hypothesis import strategies as st

# Top-level domains that are reserved (RFC 2606) are e-mail addresses by the format, and refused by the API.
_names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=20)
schemathesis.openapi.format("email", st.builds("{}@{}.example.com".format, _names, _names))
