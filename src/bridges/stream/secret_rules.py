"""Rules for secrets: names of secret settings, and formats of well-known credentials.

The formats follow the public rules of gitleaks (MIT) for services used in trainings. Existing
scanners were measured and not used: detect-secrets takes 100 times as long for the params of a run,
and others mask settings such as `eos_token` and `max_tokens`.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

MASK = "<SECRET>"


class Kind(Enum):
    """The secrecy of values under a name.

    TOKEN: text is secret unless it is a special token of a vocabulary or a count. SECRET: integers
    of at least four digits are secret, too.
    """

    PLAIN = "plain"
    TOKEN = "token"
    SECRET = "secret"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SECRET_WORDS = _words(
    "secret secrets password passwords passwd passwds passphrase passphrases passcode passcodes"
    " pwd pwds credential credentials authorization apikey apikeys cookie cookies jwt"
)
_KEY_OWNERS = _words(
    "api access private secret auth account encryption signing subscription ssh"
    " wandb openai anthropic hf comet azure"
)
_TOKEN_WORDS = _words("token tokens")
_BEFORE_PASS = _words(
    "all back backward band by double first forward high low multi n num number one per second"
    " single third total two"
)  # `forward_pass` is not a password
_VOCABULARY = _words(
    "additional added assistant audio bad begin boi bos boundary cls completion control decoder end"
    " eoi eom eos eot extra fake fim forced generated image instruction label language mask max"
    " middle min module new next no num n pad patch per placeholder prefix prompt query register"
    " response reward sep separator sentinel soft space special start stop suffix suppress target"
    " task think thinking tool total trigger unk unused video virtual vision word"
)  # before `token`: a token of the tokenizer, or a number of tokens
_GLUED = re.compile(
    r"(token|secret|passw(or)?d|passphrase|pwd|(api|access|private|secret|auth|account)keys?)s?\Z"
    r"|\A(db|ftp|login|mail|my|mysql|pg|redis|root|smtp|sql|user)pass\Z"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@lru_cache(maxsize=8192)
def kind_of(name: str) -> Kind:
    """The kind of a name such as `hub_token`, `HUBTOKEN`, `dbPassword`, `aws-secret-key-2`."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words:
        return Kind.PLAIN
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in _SECRET_WORDS or (last in ("key", "keys") and before in _KEY_OWNERS):
        return Kind.SECRET
    if last in _TOKEN_WORDS:
        return Kind.PLAIN if before in _VOCABULARY else Kind.TOKEN
    if last == "pass":
        return Kind.SECRET if before and before not in _BEFORE_PASS else Kind.PLAIN
    glued = _GLUED.search(last)
    if glued is None or last[: glued.start()] in _VOCABULARY:
        return Kind.PLAIN
    return Kind.TOKEN if glued[0].startswith("token") else Kind.SECRET


_PUBLIC = re.compile(
    r"(?i:none|null|true|false|)|[\"']?<[^<>a-z]*>[\"']?|\*+|\$\{\w+\}|\$[A-Z_][A-Z0-9_]*"
)  # an empty value, a mask, the name of a variable
_SPECIAL_TOKEN = re.compile(r"<.*>|\[[^\]]*\]|#+ .*|\W*", re.DOTALL)
_COUNT = re.compile(r"\d{1,7}|\d{1,4}[kKmMbBgGtT]")
_WEIGHT = re.compile(r"[+-]?(?:\d{1,3}|\d*\.\d+)(?:e[+-]?\d{1,3})?", re.IGNORECASE)
_FOLDER = re.compile(r"(?:/[\w.+-]+)+/?|[A-Za-z]:\\[\w.\\+ -]*")


def is_secret(name: str, text: str) -> bool:
    """Whether a text is secret under a name."""
    kind = kind_of(name)
    if kind is Kind.PLAIN or _PUBLIC.fullmatch(text):
        return False
    if kind is Kind.TOKEN:
        return not any(shape.fullmatch(text) for shape in (_SPECIAL_TOKEN, _COUNT, _WEIGHT))
    is_folder = name.lower() in ("pwd", "oldpwd") and _FOLDER.fullmatch(text)  # set by shells
    return not (is_folder or _WEIGHT.fullmatch(text))


FORMATS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{16,}|hf_[a-z]{30,}|api_org_[A-Za-z0-9]{30,}"  # Hugging Face
    r"|wandb_v1_\w{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|gl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-[\w.-]{16,}"  # GitLab
    r"|sk-(?:[A-Za-z0-9]{20,}|(?:admin|ant|or|proj|svcacct)-[\w-]{16,})"  # OpenAI, Anthropic
    r"|gsk_[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{40,}"
    r"|nvapi-[\w-]{30,}|co_api_\w{20,}"
    r"|(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"  # Google
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}"  # Slack
    r"|npm_[A-Za-z0-9]{30,}|pypi-AgE[\w-]{40,}|dckr_pat_[\w-]{20,}|hv[bs]\.[\w-]{20,}"
    r"|dapi[0-9a-f]{32}|do[opr]_v1_[0-9a-f]{64}|(?:rk|sk)_(?:live|prod|test)_[A-Za-z0-9]{10,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|glsa_\w{30,}|lin_api_[A-Za-z0-9]{30,}|ntn_[A-Za-z0-9]{40,}"
    r"|\d{8,10}:AA[\w-]{33}"  # Telegram
    r"|eyJ(?:[\w-](?!eyJ)){10,}\.[\w-]{10,}\.[\w-]{5,}|eyJhcGl[\w+/=-]{30,}"  # JWT, Neptune
    r")(?![A-Za-z0-9])"
    r"|(?<=hooks\.slack\.com/)(?:services|triggers|workflows)/[\w/+-]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)",
    re.DOTALL,
)
SHORTEST = 15  # characters of the shortest credential
_RUN = re.compile(rf"[A-Za-z][\w.+/=-]{{{SHORTEST - 1},}}")
_OTHER_SIGNS = (":AA", "hooks.slack.com/", "PRIVATE KEY-----")  # of other credentials


def may_contain_format(text: str) -> bool:
    """Whether FORMATS may match in a text. True also for texts that are searched as fast."""
    if len(text) < SHORTEST:
        return False
    if len(text) < 1000 or any(sign in text for sign in _OTHER_SIGNS):
        return True
    return FORMATS.search("\n".join({*_RUN.findall(text)})) is not None
