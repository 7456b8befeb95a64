"""Tracking URIs: with passwords that every client can read, and without them for people."""

from __future__ import annotations

import re
from urllib.parse import quote

from bridges.stream.redact import login_end, redact_text

_RESERVED = re.compile(r"[@/?#]")


def quoted_uri(uri: str) -> str:
    """The URI with `@`, `/`, `?` and `#` of its password percent-encoded.

    Clients differ in where such a password ends, and show the rest of it as the host in messages.
    """
    scheme, _, rest = uri.partition("://")
    end = login_end(rest, has_port=True)
    user, colon, password = rest[:end].partition(":")
    if not colon or not _RESERVED.search(password):
        return uri
    safe = _RESERVED.sub(lambda found: quote(found[0], safe=""), password)
    return f"{scheme}://{user}:{safe}{rest[end:]}"


def shown_uri(uri: str) -> str:
    """A tracking URI for people: a database user's name stays, passwords and tokens do not."""
    scheme, _, rest = uri.partition("://")
    user = rest[: login_end(rest, has_port=False)].partition(":")[0]
    shown = redact_text(uri)
    if not user or scheme in ("http", "https"):
        return shown
    return shown.replace("<LOGIN>", user, 1)
