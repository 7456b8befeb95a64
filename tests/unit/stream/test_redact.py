"""What is masked and what is not: one table of secrets, and one of settings that look like them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.sources.sidecars.training_args import read_training_args
from bridges.stream.model import MetricStream, Series
from bridges.stream.redact import redact, redact_stream, redact_text
from tests.bounds import processor_seconds
from tests.support import REPOSITORY

MIXED = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
AZURE = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey="

# the params, and what is left of them
SECRETS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # names
    ({"hub_token": "abc"}, {"hub_token": "<HUB_TOKEN>"}),
    ({"HUBTOKEN": "abc"}, {"HUBTOKEN": "<HUBTOKEN>"}),
    ({"HF_TOKEN_2": "abc"}, {"HF_TOKEN_2": "<HF_TOKEN_2>"}),
    ({"tokens": ["abc", 5]}, {"tokens": ["<TOKENS>", 5]}),
    ({"secrets": {"a": "b"}}, {"secrets": {"a": "<SECRETS>"}}),
    ({"db_pass": "hunter2"}, {"db_pass": "<DB_PASS>"}),
    ({"dbPass": "hunter2"}, {"dbPass": "<DBPASS>"}),
    ({"DBPASS": "hunter2"}, {"DBPASS": "<DBPASS>"}),
    ({"pwd": "hunter2"}, {"pwd": "<PWD>"}),
    ({"MYSQL_PWD": "hunter2"}, {"MYSQL_PWD": "<MYSQL_PWD>"}),
    ({"PGPASSWORD": "hunter2"}, {"PGPASSWORD": "<PGPASSWORD>"}),
    ({"password": 12345678}, {"password": "<PASSWORD>"}),
    ({"password": "-hunter2"}, {"password": "<PASSWORD>"}),
    ({"password": "$ecret"}, {"password": "<PASSWORD>"}),
    ({"api_keys": ["abc"]}, {"api_keys": ["<API_KEYS>"]}),
    ({"accountKey": "abc"}, {"accountKey": "<ACCOUNTKEY>"}),
    ({"Authorization": "abc"}, {"Authorization": "<AUTHORIZATION>"}),
    # logins of URLs
    ({"u": "https://u:hunter2@h/x"}, {"u": "https://<LOGIN>@h/x"}),
    ({"u": "https://hunter2@h/x@v1"}, {"u": "https://<LOGIN>@h/x@v1"}),
    ({"u": "postgresql://u:p@ss@h:5432/db"}, {"u": "postgresql://<LOGIN>@h:5432/db"}),
    ({"u": "postgresql://u:p/w@h:5432/db"}, {"u": "postgresql://<LOGIN>@h:5432/db"}),
    ({"u": "postgresql://u:1/w@h:5432/db"}, {"u": "postgresql://<LOGIN>@h:5432/db"}),
    ({"u": "mysql://u:p@s/w?o#rd@h/db"}, {"u": "mysql://<LOGIN>@h/db"}),
    ({"u": "a://u:p@h,b://u:p@h"}, {"u": "a://<LOGIN>@h,b://<LOGIN>@h"}),
    # their parameters
    ({"u": "https://h/#access_token=abc"}, {"u": "https://h/#access_token=<SECRET>"}),
    ({"u": "https://h/?a=1&key=abc&b=2"}, {"u": "https://h/?a=1&key=<SECRET>&b=2"}),
    ({"u": "s3://b/x?X-Amz-Signature=abc"}, {"u": "s3://b/x?X-Amz-Signature=<SECRET>"}),
    # command lines
    ({"c": "t.py --hub_token abc --lr 1"}, {"c": "t.py --hub_token <SECRET> --lr 1"}),
    ({"c": "t.py --hub_token=abc --lr 1"}, {"c": "t.py --hub_token=<SECRET> --lr 1"}),
    ({"c": "HF_TOKEN=abc python t.py"}, {"c": "HF_TOKEN=<SECRET> python t.py"}),
    ({"c": ["--hub_token", "abc", "x"]}, {"c": ["--hub_token", "<HUB_TOKEN>", "x"]}),
    ({"c": "['--hub_token', 'abc', 'x']"}, {"c": "['--hub_token', '<SECRET>', 'x']"}),
    # printed objects and settings
    ({"c": "{'hub_token': 'abc', 'n': 1}"}, {"c": "{'hub_token': '<SECRET>', 'n': 1}"}),
    ({"c": '{"api_key": "abc"}'}, {"c": '{"api_key": "<SECRET>"}'}),
    ({"c": r'"{\"api_key\": \"abc\"}"'}, {"c": r'"{\"api_key\": \"<SECRET>\"}"'}),
    ({"c": "{'secrets': {'a': 'b'}}"}, {"c": "{'secrets': <SECRET>}"}),
    ({"c": "{'tokens': ['a', 'b']}"}, {"c": "{'tokens': <SECRET>}"}),
    ({"c": "x['HF_TOKEN'] = 'abc'"}, {"c": "x['HF_TOKEN'] = '<SECRET>'"}),
    ({"c": "Args(hub_token='abc', n=1)"}, {"c": "Args(hub_token='<SECRET>', n=1)"}),
    ({"c": "password: hunter2"}, {"c": "password: <SECRET>"}),
    ({"c": "key=token=abc"}, {"c": "key=token=<SECRET>"}),
    ({"c": f"{AZURE}YWJj+/x==;EndpointSuffix=b"}, {"c": f"{AZURE}<SECRET>;EndpointSuffix=b"}),
    # headers
    ({"c": "Bearer abcdefghij123456"}, {"c": "Bearer <SECRET>"}),
    ({"c": "-H 'Authorization: Basic dTpw1234'"}, {"c": "-H 'Authorization: Basic <SECRET>'"}),
    # formats
    ({"x": f"a hf_{MIXED} b"}, {"x": "a <SECRET> b"}),
    ({"x": f"ghp_{MIXED}"}, {"x": "<SECRET>"}),
    ({"x": f"github_pat_11ABCDEFG0{MIXED}_{MIXED}"}, {"x": "<SECRET>"}),
    ({"x": "glpat-ABCdef12345678901234"}, {"x": "<SECRET>"}),
    ({"x": f"sk-{MIXED}"}, {"x": "<SECRET>"}),
    ({"x": f"sk-proj-{MIXED}-_{MIXED}"}, {"x": "<SECRET>"}),
    ({"x": "AKIAIOSFODNN7EXAMPLE"}, {"x": "<SECRET>"}),
    ({"x": "xoxb-123456789012-abcdefghij"}, {"x": "<SECRET>"}),
    ({"x": "AIzaSyA1234567890abcdefghijklmnopqrstuv"}, {"x": "<SECRET>"}),
    ({"x": f"npm_{MIXED}"}, {"x": "<SECRET>"}),
    ({"x": f"pypi-AgEIcHlwaS5vcmc{MIXED}"}, {"x": "<SECRET>"}),
    ({"x": "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2lnbmF0dXJl"}, {"x": "<SECRET>"}),
    (
        {"x": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n."},
        {"x": "<SECRET>\n."},
    ),
    ({"x": "-----BEGIN PRIVATE KEY-----\nMIIE"}, {"x": "<SECRET>"}),
    # keys
    ({f"hf_{MIXED}": 1}, {"<SECRET>": 1}),
    ({"m": {f"hf_{MIXED}": 1, f"ghp_{MIXED}": 2}}, {"m": {"<SECRET>": 1, "<SECRET>-1": 2}}),
]

INNOCENT: list[dict[str, Any]] = [
    {"num_input_tokens_seen": 12345678, "max_tokens": 512, "max_new_tokens": "256"},
    {"eos_token": "</s>", "pad_token": "[PAD]", "bos_token": "<|im_start|>", "unk_token": "unk"},
    {"mask_token": "<mask>", "response_token": "### Answer", "image_token": "<image>"},
    {"pad_token_id": 0, "decoder_start_token_id": 2, "token_type": "x", "n_tokens": "1M"},
    {"additional_special_tokens": ["<a>", "b"], "suppress_tokens": [1, 2], "max_token": 5},
    {"token": "<s>", "tokens": "512k", "loss_per_token": 0.5},
    {"tokenizer": "bert", "tokenizer_class": "BertTokenizer", "token_pattern": "x"},
    {"lr_scheduler_kwargs": {"num_cycles": 1}, "key_metric": "eval_loss", "keys": "a b"},
    {"score_key": "acc", "primary_key": "id", "monkey": "x", "secretary": "x", "key": "k"},
    {"cls_pw": 1.0, "forward_pass": "fast", "n_pass": 5000, "bypass": "x", "passes": 3},
    {"hub_token": None}, {"hub_token": ""}, {"hub_token": "<HUB_TOKEN>"}, {"hub_token": "$HF"},
    {"use_auth_token": True, "password": False, "auth_token": "None", "secret": "${SECRET}"},
    {"label2id": {"B-PASSWORD": 1, "O": 0}, "id2label": {"1": "B-PASSWORD"}},
    {"PWD": "/home/anna/work", "output_dir": "/home/anna/out/checkpoint-500"},
    {"commit": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "run_id": "8d0d5e3b4c4f4b7da0b0b2f4"},
    {"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
    {"image": "ghcr.io/a/b@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a0"},
    {"model": "sk-learn-based-model-for-tabular-data-2023", "m": "hf_internal_testing_tiny_bert"},
    {"url": "https://huggingface.co/a/b", "code": "git+https://github.com/a/b@main"},
    {"url": "http://localhost:5000/x@v1", "mail": "https://h/p?mail=a@b.org", "s": "s3://b/k/o"},
    {"c": "--max_tokens 512 --eos_token <s> --pad_token_id 0 --key_metric loss"},
    {"c": ["--max_tokens", "512", "--hub_token", "--seed", "1", "--tokenizer", "bert"]},
    {"c": "Args(hub_token=None, key=1, max_tokens=512, eos_token='</s>', loss_per_token=0.5)"},
    {"c": "{'eos_token': '</s>', 'hub_token': None, 'additional_special_tokens': ['<a>']}"},
    {"c": "token = tokenizer.decode(x); api_key = os.environ['X']"},
    {"c": "the secret: 42 trials. Your token: is here. A password: required. obj_pw: 1.0"},
    {"c": "basic authentication for all, a bearer of news, metric pass@1, user@host:/path"},
]  # fmt: skip


@pytest.mark.parametrize(("params", "clean"), SECRETS, ids=lambda value: repr(value)[:60])
def test_secrets_are_masked_and_counted(params: dict[str, Any], clean: dict[str, Any]) -> None:
    shown, (finding,) = redact(params)
    assert shown == clean
    assert finding.code == "secret-masked"
    assert redact(shown) == (clean, [])


@pytest.mark.parametrize("params", INNOCENT, ids=lambda value: repr(value)[:60])
def test_what_only_looks_like_a_secret_stays(params: dict[str, Any]) -> None:
    assert redact(params) == (params, [])
    assert redact_text(json.dumps(params)) == json.dumps(params)


def test_real_files_hold_nothing_that_is_masked() -> None:
    places = [REPOSITORY / "tests/data", REPOSITORY.parent / "shared/corpus"]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    documents = [found for path in files if (found := _settings(path))]
    assert len(documents) > 20
    assert [redact(document)[1] for document in documents if redact(document)[1]] == []


def _settings(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".bin":
            return read_training_args(path.read_bytes())
        return {"": json.loads(path.read_bytes())} if path.suffix == ".json" else {}
    except ValueError:
        return {}


def test_texts_and_keys_of_a_log_are_masked_and_numbers_are_not() -> None:
    row = np.zeros(1, np.int64)
    texts = np.array([{"args": f"--hub_token hf_{MIXED}"}], object)
    columns = {"note": texts, "secret": row + 5000, f"hf_{MIXED}": row}
    series = tuple(Series(key, row, values) for key, values in columns.items())
    stream = MetricStream(row, np.zeros(1, np.uint8), series)
    clean, (finding,) = redact_stream(stream)
    assert list(clean) == [
        {"step": 0, "note": {"args": "--hub_token <SECRET>"}, "secret": 5000, "<SECRET>": 0}
    ]
    assert (finding.code, finding.where, finding.count) == (
        "secret-masked-in-log",
        "<SECRET>, note.args",
        2,
    )
    assert redact_stream(clean)[0] is clean


HOSTILE = (
    *("a://", "a", "token", "token=", 'token="', "--", "-a ", "key:[", "a://@", "http://u:p@h "),
    *("eyJaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "Bearer ", "token='\\\\", "key\\'", "?key="),
    *("key=", "key:", "eyJ-", "/-"),
)


@pytest.mark.parametrize("part", HOSTILE)
def test_the_time_is_linear_in_the_text(part: str) -> None:
    """Of 16 times the text it is about 16 times as much; were it quadratic, 256 times."""

    def seconds(length: int) -> float:
        text = part * (length // len(part))
        return processor_seconds(lambda: redact_text(text, home=True))

    assert seconds(320_000) < 64 * seconds(20_000) + 0.05


@pytest.mark.parametrize(("params", "clean"), SECRETS, ids=str)
def test_secrets_are_found_in_long_texts(params: dict[str, Any], clean: dict[str, Any]) -> None:
    """They are looked for in another way than in short ones."""
    short = json.dumps([params, clean], ensure_ascii=False)
    lines = "\n".join(f"{step} 1e-05 learning_rate" for step in range(200))
    assert redact_text(f"{lines}\n{short}") == f"{lines}\n{redact_text(short)}"


def test_no_lower_case_moves_what_follows() -> None:
    """Names are looked for in the lower case of a text, and secrets in the text itself."""
    assert [at for at in range(0x110000) if len(chr(at).lower()) != 1] == [0x130]
    assert redact_text("\u0130 \u0130 password=hunter2") == "\u0130 \u0130 password=<SECRET>"


@pytest.mark.parametrize("length", [254, 255, 256, 257, 5000])
def test_long_values_are_masked_whole(length: int) -> None:
    assert redact_text(f"password={'x' * length}, a=1") == "password=<SECRET>, a=1"


def test_the_shortest_credential_is_masked() -> None:
    """Shorter texts are not searched for the formats of credentials."""
    assert redact_text("xoxb-" + 10 * "1") == "<SECRET>"
    assert redact_text("xoxb-" + 9 * "1") == "xoxb-" + 9 * "1"
