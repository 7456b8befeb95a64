"""Tracking URIs: quoted for clients, and redacted for messages."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from urllib.parse import quote

from bridges.errors import ConfigError
from bridges.stream.redact import login_end, redact_message

_RESERVED = re.compile(r"[^\w.~!$&()*+,;=%-]|[^\0-\x7f]")  # characters to quote in a password

_HOST = re.compile(r"[\w.-]+:\d{1,5}(/.*)?|localhost(/.*)?")
_DOMAIN = re.compile(  # a directory may have a dot in its name, too
    r"[\w-]+(\.[\w-]+)*\.(ai|app|cloud|com|corp|dev|edu|internal|io|lan|local|net|org)(/.*)?"
)
_DATABASE_FILE = re.compile(r".*\.(db|sqlite|sqlite3)")
_DRIVERS = {  # by scheme: module, package; SQLAlchemy names the module only
    "mysql": ("MySQLdb", "mysqlclient"),
    "mysql+pymysql": ("pymysql", "pymysql"),
}


def check_scheme(uri: str) -> None:
    """Raise ConfigError for the address of a server or a database without its scheme."""
    if "://" in uri:
        return
    if "@" in uri:  # it may have a password, which is not printed
        raise ConfigError(
            "the tracking URI has a login but no scheme. Put the scheme before the login, such as "
            "postgresql://, mysql+pymysql:// or https://."
        )
    if _HOST.fullmatch(uri):
        raise ConfigError(f"tracking URI {uri} has no scheme. Did you mean http://{uri}?")
    if _DOMAIN.fullmatch(uri) and not os.path.exists(uri):
        raise ConfigError(f"tracking URI {uri} has no scheme. Did you mean https://{uri}?")
    if _DATABASE_FILE.fullmatch(uri):
        raise ConfigError(f"tracking URI {uri} has no scheme. Did you mean sqlite:///{uri}?")


def check_driver(uri: str) -> None:
    """Raise ConfigError if the driver of a MySQL database is not installed."""
    scheme = uri.partition("://")[0]
    module, package = _DRIVERS.get(scheme, ("", ""))
    if module and find_spec(module) is None:
        other = ", or `pip install pymysql` and begin the URI with mysql+pymysql://"
        raise ConfigError(
            f"{shown_uri(uri)}: the driver {module} is not installed. Run `pip install {package}`"
            f"{other if scheme == 'mysql' else ''}."
        )


def quoted_uri(uri: str) -> str:
    """The URI with `@`, `/` and other reserved characters of its password percent-encoded.

    Clients disagree about the end of an unquoted password, and print the rest of it as the host.
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
