"""No planted secret leaves redaction; what is no secret stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridges.stream.redact import redact, redact_text

ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SECRETS = st.one_of(
    st.text(ALNUM, min_size=30, max_size=40).map("hf_".__add__),
    st.text(ALNUM, min_size=36, max_size=36).map("ghp_".__add__),
    st.text(ALNUM, min_size=40, max_size=48).map("sk-".__add__),
    st.text(ALNUM.upper(), min_size=16, max_size=16).map(
        lambda text: "AKIA" + "".join(c if c.isdigit() or c.isupper() else "X" for c in text)
    ),
)
SECRET_NAMES = st.sampled_from(
    (
        *("token", "hub_token", "HF_TOKEN", "hubToken", "push_to_hub_token", "password"),
        *("db_passwd", "api_key", "wandb_api_key", "WANDB-API-KEY", "apikey", "openaiApiKey"),
        *("client.secret", "aws_secret_access_key", "private_key", "credentials"),
    )
)
PLAIN_NAMES = st.sampled_from(
    (
        *("learning_rate", "num_train_epochs", "tokenizer", "max_new_tokens", "output_dir"),
        *("keys", "monkey", "secretary", "token_type", "key", "passwordless"),
    )
)


def nested(value: Any) -> st.SearchStrategy[Any]:
    """The value bare, or in a list, a dict or both."""
    return st.sampled_from([value, [1, value], {"a": value}, {"a": [{"b": value}]}])


@given(st.data(), SECRETS, PLAIN_NAMES)
def test_a_well_known_credential_is_masked_wherever_it_stands(
    data: st.DataObject, secret: str, name: str
) -> None:
    text = data.draw(
        st.sampled_from(["{}", "use {} here", "https://x/?a={}", "'{}'", "--token={}"])
    )
    clean, findings = redact({name: data.draw(nested(text.format(secret))), "seed": 42})
    assert secret not in repr(clean)
    assert clean["seed"] == 42
    assert [(f.code, f.count) for f in findings] == [("secret-masked", 1)]
    assert findings[0].where.startswith(name)


@given(st.data(), st.text(ALNUM, min_size=8, max_size=20), SECRET_NAMES)
def test_a_secret_name_masks_any_text_below_it(data: st.DataObject, text: str, name: str) -> None:
    clean, findings = redact({name: data.draw(nested(text))})
    assert text not in repr(clean)
    assert f"<{name.upper()}>" in repr(clean)
    assert findings[0].code == "secret-masked"


@given(st.text(ALNUM, min_size=8, max_size=20))
def test_logins_and_signatures_in_urls_are_masked(secret: str) -> None:
    assume(secret not in "postgresql X-Amz-Signature access_token")  # what stays is no secret
    for url in (
        f"https://anna:{secret}@host/x",
        f"postgresql://{secret}@host:5432/db",
        f"s3://b/x?X-Amz-Signature={secret}&v=1",
        f"https://h/x?v=1&access_token={secret}#top",
    ):
        assert secret not in redact_text(url)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(" abc/_-.@:"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(PLAIN_NAMES, PLAIN))
def test_ordinary_params_stay_as_they_are(params: dict[str, Any]) -> None:
    if "://" not in repr(params):
        assert redact(params) == (params, [])


@given(st.dictionaries(SECRET_NAMES | PLAIN_NAMES, PLAIN | SECRETS))
def test_twice_is_once(params: dict[str, Any]) -> None:
    once, _ = redact(params)
    assert redact(once)[0] == once


@pytest.mark.parametrize(
    ("params", "clean"),
    [
        ({"hub_token": None}, {"hub_token": None}),
        ({"hub_token": ""}, {"hub_token": ""}),
        ({"hub_token": "<HUB_TOKEN>"}, {"hub_token": "<HUB_TOKEN>"}),
        ({"pad_token": 0, "max_token": 5}, {"pad_token": 0, "max_token": 5}),
        ({"password": 12345678}, {"password": "<PASSWORD>"}),
        ({"password": True}, {"password": True}),
        ({"api_key": {"value": "abc"}}, {"api_key": {"value": "<API_KEY>"}}),
        ({"dir": "/home/anna/out"}, {"dir": "/home/anna/out"}),
        ({"step": (1, 2)}, {"step": [1, 2]}),
        ({"m": {1: "x"}}, {"m": {"1": "x"}}),
    ],
    ids=str,
)
def test_params(params: dict[str, Any], clean: dict[str, Any]) -> None:
    assert redact(params)[0] == clean


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/anna/out/checkpoint-5", "~/out/checkpoint-5"),
        ("/Users/anna/out", "~/out"),
        ("C:\\Users\\Anna\\out", "~\\out"),
        ("/mnt/home/anna/out", "~/out"),
        ("file:///home/anna/out", "file://~/out"),
        ("./home/x", "./home/x"),
        ("data/home/x", "data/home/x"),
        ("/data/home.d/x", "/data/home.d/x"),
        ("/home", "/home"),
    ],
)
def test_home_directories_are_hidden_on_request(path: str, shown: str) -> None:
    assert redact({"best": path}, home=True) == ({"best": shown}, [])
    assert redact({"best": path}) == ({"best": path}, [])


def test_the_finding_names_each_setting_once() -> None:
    _, (finding,) = redact({"hub_token": ["a", "b"], "x": {"api_key": "c"}, "n": 1})
    assert (finding.where, finding.count) == ("hub_token, x.api_key", 3)
    assert finding.message == "secrets are masked before anything is written"
