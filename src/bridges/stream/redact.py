"""Redaction: masks secrets in params, log rows and messages before anything is written.

A value under the name of a secret becomes `<NAME>`, like settings with a name in `_token` in the
live callbacks. A secret within a text becomes `<SECRET>`, the login of a URL `<LOGIN>`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from bridges.stream.columns import as_array
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, Series
from bridges.stream.secret_rules import FORMATS, MASK, Kind, is_secret, kind_of, may_contain_format

_HOME = re.compile(
    r"(?<![\w.-])((/[\w.-]+)*/(home|Users)/|[A-Za-z]:\\Users\\)[^/\\\s\"']+"  # also /mnt/home
)
_UNBROKEN = re.compile(r"[^\s\"']+")  # text that may contain a URL
_MAX_VALUE_CHARS = 256  # of a value, examined for secrets
_REST = r"[^\s\"',;&()\[\]}]"  # a character of an unquoted value after the first
_REST_OF_VALUE = re.compile(f"{_REST}*")
_USER = re.compile(r"[^:@/?#]*")
_PORT = re.compile(r":\d{1,5}[/?#]")
_URL_SECRET = re.compile(
    r"(?<=[?&#;])([\w-]*(?:token|key|secret|password|signature|sig)=)[^&\s#;\"'<][^&\s#;\"']*", re.I
)
_HEADER = re.compile(r"\b((?:Bearer|Basic)\s+)(?=\S*[\d=]|\S{20})[\w.~+/=-]{8,}", re.I)
_VALUE = (
    r"(?P<value>\\?\"[^\"\\]*(?:\\[^\"][^\"\\]*)*\\?\"|\\?'[^'\\]*(?:\\[^'][^'\\]*)*\\?'"
    rf"|\[[^\]\[]*\]|\{{[^}}{{]*\}}|[^\s\"',;&<()\[\]{{}}]"
    rf"(?:{_REST}{{{_MAX_VALUE_CHARS - 1}}}|{_REST}{{0,{_MAX_VALUE_CHARS - 2}}}(?![\w([])))"
)
_ASSIGNED = re.compile(
    r"(?:token|secret|password|passwd|passphrase|passcode|pass|pwd|key|credential|authorization"
    r"|cookie|jwt)s?[\d_-]{0,4}"
    rf"(?P<sign>\\?[\"']?\]?\s{{0,4}}[=:]\s{{0,4}}){_VALUE}",
    re.I,
)
_ASSIGNED_WORDS = (  # one of these begins each match
    *("token", "secret", "pass", "pwd", "key", "credential", "authorization", "cookie", "jwt"),
)
_OPTION = re.compile(
    r"(?<![\w-])--?(?P<name>[A-Za-z][\w.-]{0,60})[\"']?,?\s{1,4}(?P<value>\"[^\"-][^\"]*\"|'[^'-][^']*'"
    r"|[^\s\"',;-][^\s\"',;\]]*)"
)
_DASH = re.compile(r"-[A-Za-z]")
_QUOTE = re.compile(r"(?:\\?[\"'])?")
_Find = Callable[[int], "re.Match[str] | None"]
_QUOTED = re.compile(r"\"([^\"\\]*)\\?\"|'([^'\\]*)\\?'")


def redact(
    params: Mapping[str, object], *, home: bool = False
) -> tuple[dict[str, object], list[Finding]]:
    """The params with secrets masked, and a finding that lists the masked settings.

    `home` also replaces home directories (`/home/anna/x`) by `~`.
    """
    cleaner = _Redactor(home)
    clean = {
        key: cleaner.value(key, value, key)
        for key, value in cleaner.keys(params.items(), "").items()
    }
    if not cleaner.masked:
        return clean, []
    message = "secrets are masked before anything is written"
    return clean, [_finding("secret-masked", Severity.INFO, cleaner.masked, message)]


def redact_value(key: str, value: object) -> object:
    """A value of any JSON type under a key, with secrets masked."""
    return _Redactor(home=False).value(key, value, key)


@lru_cache(maxsize=8192)
def redact_key(key: str) -> str:
    """A key with secrets masked."""
    return redact_text(key)


@lru_cache(maxsize=1024)  # many runs have the same keys
def _are_clean(keys: tuple[str, ...]) -> bool:
    return all(redact_key(key) == key for key in keys)


def redact_stream(stream: MetricStream, *, keys: bool = True) -> tuple[MetricStream, list[Finding]]:
    """The stream with secrets in texts, lists, objects and (with `keys`) keys masked; findings."""
    if _are_clean(stream.keys) and all(series.is_number for series in stream.series):
        return stream, []
    cleaner = _Redactor(home=False)
    names = cleaner.keys(dict.fromkeys(stream.keys).items(), "") if keys else stream.keys
    renamed = dict(zip(stream.keys, names, strict=True))
    series = tuple(cleaner.series(each, renamed[each.key]) for each in stream.series)
    if not cleaner.masked:
        return stream, []
    message = "secrets in the log are masked in targets and reports; the file still contains them"
    return replace(stream, series=series), [
        _finding("secret-masked-in-log", Severity.WARNING, cleaner.masked, message)
    ]


def redact_text(text: str, *, home: bool = False) -> str:
    """A text with credentials, logins in URLs and (with `home`) home directories masked."""
    text = redact_message(text)
    if " " in text:
        if "bearer" in (lower := _lower(text)) or "basic" in lower:
            text = _HEADER.sub(rf"\1{MASK}", text)
        if _DASH.search(text):
            options = partial(_OPTION.search, text)
            text = _masked(
                text, options, lambda found: _is_printed_secret(found["name"], found["value"])
            )
    if "=" in text or ":" in text:
        text = _masked(text, _found_at(_ASSIGNED, text, _assignments(text)), _is_assigned_secret)
    return _HOME.sub("~", text) if home else text


def redact_message(text: str) -> str:
    """A message with logins in URLs and credentials of known formats masked.

    The names of settings stay, as in `key 'hub_token': found …`.
    """
    if "://" in text and "@" in text:
        text = _UNBROKEN.sub(lambda found: _without_logins(found[0]), text)
    if may_contain_format(text):
        text = FORMATS.sub(MASK, text)
    return _URL_SECRET.sub(rf"\1{MASK}", text) if "=" in text else text


def shown_finding(finding: Finding) -> dict[str, str | int]:
    """A finding in the JSON document, with logins in URLs masked."""
    place, message = redact_message(finding.where), redact_message(finding.message)
    return replace(finding, where=place, message=message).as_dict()


def _without_logins(text: str) -> str:
    """A text without blanks, with the logins of its URLs masked."""
    first, *urls = text.split("://")
    shown = [first]
    for url in urls:
        is_web = shown[-1].lower().endswith(("http", "https"))
        shown.append(f"<LOGIN>{url[end:]}" if (end := login_end(url, is_web)) else url)
    return "://".join(shown)


def login_end(url: str, has_port: bool) -> int:
    """The end of the login in a URL without its scheme; 0 if it has no login.

    A password may contain `@` and `/`. With `has_port`, `host:80/path` has no login.
    """
    user = _USER.match(url)
    end = user.end() if user else 0
    if url[end : end + 1] == "@":
        path = min((at for sign in "/?#" if (at := url.find(sign)) > 0), default=len(url))
        return url.rindex("@", 0, path)
    if url[end : end + 1] != ":" or (has_port and _PORT.match(url, end)):
        return 0
    return max(url.rfind("@"), 0)


def _lower(text: str) -> str:
    """The text in lower case, as case-insensitive patterns compare it."""
    return text.replace("\u0130", "i").replace("\u017f", "s").lower()


def _assignments(text: str) -> list[int]:
    """The positions at which matches of _ASSIGNED can begin, sorted; faster than searching."""
    text, starts = _lower(text), []
    for word in _ASSIGNED_WORDS:
        at = text.find(word)
        while at >= 0:
            starts.append(at)
            at = text.find(word, at + 1)
    return sorted(starts)


def _found_at(pattern: re.Pattern[str], text: str, starts: list[int]) -> _Find:
    """A search for a pattern that can match only at the given positions."""

    def find(at: int) -> re.Match[str] | None:
        for index in range(bisect_left(starts, at), len(starts)):
            if found := pattern.match(text, starts[index]):
                return found
        return None

    return find


def _masked(text: str, find: _Find, is_secret: Callable[..., bool]) -> str:
    """The text with the group `value` masked in each match that is a secret.

    `find` returns the first match from a position on. After another match, the search continues
    from its value.
    """
    parts, done, at = [], 0, 0
    while found := find(at):
        start, at = found.span("value")
        if is_secret(found):
            opening = _QUOTE.match(found["value"])
            quote = opening[0] if opening else ""
            parts.append(f"{text[done:start]}{quote}{MASK}{quote}")
            if at - start == _MAX_VALUE_CHARS and text[start] not in "\\\"'[{":
                rest = _REST_OF_VALUE.match(text, at)
                at = rest.end() if rest else at
            done = at
        else:
            at = start
    return "".join([*parts, text[done:]]) if parts else text


def _is_option_secret(found: re.Match[str]) -> bool:
    """Whether `--name value` sets a secret."""
    return _is_printed_secret(found["name"], found["value"])


def _is_assigned_secret(found: re.Match[str]) -> bool:
    """Whether `name=value`, `name: value` or `"name": value` sets a secret.

    Because prose contains colons, an unquoted value after a colon must have digits or be long.
    """
    name = _name_before(found.string, found.start("sign"))
    value, sign = found["value"], found["sign"]
    is_loose = sign != "=" and sign[0] not in "\\\"'" and value[0] not in "\\\"'[{"
    if is_loose and len(value) < 20 and not any(map(str.isdigit, value)):
        return False
    return _is_printed_secret(name, value)


def _name_before(text: str, end: int) -> str:
    start = end
    while start and end - start < 80 and (text[start - 1].isalnum() or text[start - 1] in "_-."):
        start -= 1
    return text[start:end]


def _is_printed_secret(name: str, value: str) -> bool:
    """Whether a printed value under a name is a secret, or contains one in quotes."""
    if value[0] in "[{":
        return any(is_secret(name, a or b) for a, b in _QUOTED.findall(value))
    return is_secret(name, value.strip("\\\"'"))


class _Redactor:
    """Masks values and collects their paths in `masked`, such as `x.api_key`."""

    def __init__(self, home: bool) -> None:
        self._home = home
        self.masked: list[str] = []

    def keys(self, items: Iterable[tuple[object, object]], path: str) -> dict[str, object]:
        """The items under redacted keys; keys that become equal are numbered."""
        clean: dict[str, object] = {}
        for key, value in items:
            name = shown = redact_key(str(key))
            if shown != str(key):
                self.masked.append(f"{path}{shown}")
            while name in clean:
                name = f"{shown}-{len(clean)}"
            clean[name] = value
        return clean

    def series(self, series: Series, key: str) -> Series:
        """The series under a redacted key."""
        if series.is_number:
            return series if key == series.key else replace(series, key=key)
        values = [self.value(key, value, key) for value in series.values.tolist()]
        return replace(series, key=key, values=as_array(values, object))

    def value(self, key: str, value: object, path: str) -> object:
        """The redacted value of a key; `path` is its position for `masked`."""
        if isinstance(value, str):
            return self._text(key, value, path)
        if value is None or isinstance(value, (bool, int, float)):
            is_large = type(value) is int and abs(value) > 999
            is_hidden = is_large and kind_of(key) is Kind.SECRET
            return self._mask(key, path) if is_hidden else value
        if isinstance(value, Mapping):  # everything under the name of a secret is secret
            is_plain = kind_of(key) is Kind.PLAIN
            items = self.keys(value.items(), f"{path}.").items()
            return {k: self.value(k if is_plain else key, v, f"{path}.{k}") for k, v in items}
        return self._list(key, value, path) if isinstance(value, (list, tuple)) else value

    def _list(self, key: str, values: Sequence[object], path: str) -> list[object]:
        """The values of a list, in which a value may follow its option (`--hub_token`)."""
        names = [key, *(_secret_option(value) or key for value in values)]
        pairs = zip(names, values, strict=False)
        return [self.value(key if _is_option(v) else name, v, path) for name, v in pairs]

    def _text(self, key: str, text: str, path: str) -> str:
        if is_secret(key, text):
            return self._mask(key, path)
        shown = redact_text(text)
        if shown != text:
            self.masked.append(path)
        return _HOME.sub("~", shown) if self._home else shown

    def _mask(self, key: str, path: str) -> str:
        self.masked.append(path)
        return f"<{key.rpartition('/')[2].upper()}>"


def _is_option(value: object) -> bool:
    return isinstance(value, str) and value.startswith("-")


def _secret_option(value: object) -> str:
    """`hub_token` for `--hub_token`; empty if the value is not an option for a secret."""
    if not isinstance(value, str) or not _is_option(value):
        return ""
    name = value.lstrip("-")
    return name if kind_of(name) is not Kind.PLAIN and "=" not in name else ""


def _finding(code: str, severity: Severity, masked: Sequence[str], message: str) -> Finding:
    return Finding(code, severity, ", ".join(dict.fromkeys(masked)), message, len(masked))
