"""One module per peer: the same small API, each written as its framework's own documentation would write it."""
