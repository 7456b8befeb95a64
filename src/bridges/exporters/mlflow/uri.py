"""Tracking URIs: quoted for clients, and redacted for messages."""

from __future__ import annotations

import re
from urllib.parse import quote

from bridges.stream.redact import login_end, redact_message

_RESERVED = re.compile(r"[^\w.~!$&()*+,;=%-]|[^\0-\x7f]")  # characters to quote in a password


def quoted_uri(uri: str) -> str:
    """The URI with `@`, `/` and other reserved characters of its password percent-encoded.

    Clients disagree where an unquoted password ends, and print the rest of it as the host.
    """
    scheme, _, rest = uri.partition("://")
    end = login_end(rest, has_port=True)
    user, colon, password = rest[:end].partition(":")
    if not colon or not _RESERVED.search(password):
        return uri
    safe = _RESERVED.sub(lambda found: quote(found[0], safe=""), password)
    return f"{scheme}://{user}:{safe}{rest[end:]}"


def shown_uri(uri: str) -> str:
    """A tracking URI for messages: without passwords and tokens, with the database user."""
    scheme, separator, rest = uri.partition("://")
    is_web = scheme in ("http", "https")
    end = login_end(rest, has_port=is_web)
    user = "<LOGIN>" if is_web else rest[:end].partition(":")[0]
    return f"{scheme}{separator}{user if end else ''}{redact_message(rest[end:])}"
