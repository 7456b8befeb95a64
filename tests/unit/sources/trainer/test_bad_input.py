"""Every bad input gets one message: the file, the place in it, what is there, what to do.

The messages are written out, less the name of the file they all begin with.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import pickle
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from bridges.errors import BridgeError, SourceError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.state_file import TrainerStateSource
from tests.support import packed

HISTORY = "a trainer_state.json, a list of log rows or JSON lines of log rows"
LOOK = "This is another file: look for the trainer_state.json in a Trainer's output directory."
AS_TEXT = "Give the trainer_state.json as UTF-8 text (gzip is fine)."
EARLIER = "The save was cut off: use an earlier checkpoint's file."
CUT_OFF = (
    "found the end of the file inside a value; expected valid JSON. The save was cut off: use "
    "an earlier checkpoint's file, or read its complete rows with --salvage."
)
MEND = "Fix the file there: it is not valid JSON (NaN and Infinity are fine)."
FIX_ROW = "Fix that row, or remove it from the file."
FIX_VALUE = "Fix that value: transformers never writes such a value."
CONVERT = "Convert the file to UTF-8, or copy it again in binary mode."
BIG = "an integer between -2^63 and 2^63-1"

ROW = b'{"loss": 1.5, "step": 1}'
OPEN = b'{"global_step": 2, "log_history": ['


def in_state(rows: bytes) -> bytes:
    return OPEN + rows + b"]}"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("trainer_state.json", in_state(ROW))
    return buffer.getvalue()


def sqlite_database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table metrics (key text)")
        return database.serialize() if hasattr(database, "serialize") else b"SQLite format 3\0"


OTHER_KINDS = {
    "git-LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        f"found a git-LFS pointer, not the file itself; expected {HISTORY}. "
        "Run `git lfs pull` in its repository.",
    ),
    "HTML page": (
        b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
        f"found an HTML or XML page; expected {HISTORY}. "
        "Download the raw file instead of the page that shows it.",
    ),
    "XML error of a bucket": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        f"found an HTML or XML page; expected {HISTORY}. "
        "Download the raw file instead of the page that shows it.",
    ),
    "gzip of an HTML page": (
        packed(b"<html></html>"),
        f"found an HTML or XML page; expected {HISTORY}. "
        "Download the raw file instead of the page that shows it.",
    ),
    "empty": (b"", f"found an empty file; expected {HISTORY}. {EARLIER}"),
    "whitespace only": (b" \r\n\t\n" * 400, f"found an empty file; expected {HISTORY}. {EARLIER}"),
    "BOM only": (b"\xef\xbb\xbf", f"found an empty file; expected {HISTORY}. {EARLIER}"),
    "gzip of nothing": (packed(b""), f"found an empty file; expected {HISTORY}. {EARLIER}"),
    "table of empty lines": (
        b"| | |\n| | |",
        f"found an empty file; expected {HISTORY}. {EARLIER}",
    ),
    "UTF-16 little endian": (
        '{"log_history": []}'.encode("utf-16"),
        f"found UTF-16 text; expected {HISTORY}. {AS_TEXT}",
    ),
    "UTF-16 big endian": (
        b"\xfe\xff" + '{"log_history": []}'.encode("utf-16-be"),
        f"found UTF-16 text; expected {HISTORY}. {AS_TEXT}",
    ),
    "UTF-16 without BOM": (
        '{"log_history": []}'.encode("utf-16-le"),
        f"found binary data or UTF-16 text (it contains zero bytes); expected {HISTORY}. {AS_TEXT}",
    ),
    "safetensors": (
        (64).to_bytes(8, "little") + b'{"weight":{"dtype":"F32"}}',
        f"found binary data or UTF-16 text (it contains zero bytes); expected {HISTORY}. {AS_TEXT}",
    ),
    "zip (a training_args.bin)": (zipped(), f"found a zip archive; expected {HISTORY}. {AS_TEXT}"),
    "zstandard": (
        b"\x28\xb5\x2f\xfd\x04\x00",
        f"found a zstandard archive; expected {HISTORY}. {AS_TEXT}",
    ),
    "bzip2": (
        bz2.compress(in_state(ROW)),
        f"found a bzip2 archive; expected {HISTORY}. {AS_TEXT}",
    ),
    "xz": (lzma.compress(in_state(ROW)), f"found an xz archive; expected {HISTORY}. {AS_TEXT}"),
    "PNG (training_loss.png)": (
        b"\x89PNG\r\n\x1a\n\x00\x00",
        f"found a PNG picture; expected {HISTORY}. {AS_TEXT}",
    ),
    "PDF": (b"%PDF-1.7\n", f"found a PDF; expected {HISTORY}. {AS_TEXT}"),
    **{
        f"pickle, protocol {protocol}": (
            pickle.dumps({"log_history": []}, protocol),
            f"found a Python pickle; expected {HISTORY}. {AS_TEXT}",
        )
        for protocol in (2, 3, 4, 5)
    },
    "SQLite (mlflow.db)": (
        sqlite_database(),
        f"found an SQLite database; expected {HISTORY}. {AS_TEXT}",
    ),
    "gzip with a broken header": (
        b"\x1f\x8b\x08\xffgarbage, garbage",
        "found gzip data that is broken (unknown header flags set); expected a complete gzip file. "
        "Get the file again.",
    ),
    "gzip with another checksum": (
        packed(in_state(ROW))[:-8] + b"\0" * 8,
        "found gzip data that is broken (incorrect data check); expected a complete gzip file. "
        "Get the file again.",
    ),
    "gzip with text after it": (
        packed(in_state(ROW)) + b"junk",
        "found gzip data that is broken (incorrect header check); expected a complete gzip file. "
        "Get the file again.",
    ),
    "gzip cut off": (
        packed(in_state(ROW))[:-12],
        "found gzip data that ends too early; expected a complete gzip file. "
        "Get the file again, or use --salvage to read the part before the end.",
    ),
    "gzip cut off in its second member": (
        packed(in_state(ROW)) + packed(b"\n")[:9],
        "found gzip data that ends too early; expected a complete gzip file. "
        "Get the file again, or use --salvage to read the part before the end.",
    ),
}

ENCODINGS = {
    "latin-1 letter": (
        b'{\n  "trial_name": "caf\xe9", "log_history": []}',
        "line 2, column 21: found the byte 0xe9, which is not UTF-8; "
        f"expected UTF-8 text. {CONVERT}",
    ),
    "latin-1 letter after others that take two bytes": (
        '{"ééé": "'.encode() + b"\xe9" + b'"}',
        "line 1, column 10: found the byte 0xe9, which is not UTF-8; "
        f"expected UTF-8 text. {CONVERT}",
    ),
    "latin-1 letter in JSON lines": (
        ROW + b"\n" + ROW + b'\n{"note": "\xe9", "step": 3}\n' + ROW,
        "line 3, column 11: found the byte 0xe9, which is not UTF-8; "
        f"expected UTF-8 text. {CONVERT}",
    ),
    "encoded surrogate (CESU-8)": (
        b'{"a": "\xed\xa0\x80"}',
        "line 1, column 8: found the byte 0xed, which is not UTF-8; "
        f"expected UTF-8 text. {CONVERT}",
    ),
}

TABLES = {
    "table with a bare line": (
        b'| { | |\n| "global_step": 1, | |\n"log_history": [] | |\n| } | |',
        "line 3: found '\"log_history\": [] | |'; expected a line between table bars `| … |`, like "
        "the first line. Copy the complete table again, or remove the bars from every line.",
    ),
    "table cut off in its last line": (
        b'| {"global_step": 1, "log_history": [ | |\n| {"loss": 1.5, "st',
        'line 2: found \'| {"loss": 1.5, "st\'; expected a line between table bars `| … |`, like '
        "the first line. Copy the complete table again, or use --salvage.",
    ),
    "table of bad JSON keeps its columns": (
        b'| { | |\n| "global_step" 1 | |\n| } | |',
        f"line 2, column 17: found '1'; expected a colon after the key. {MEND}",
    ),
}

OTHER_JSON = {
    "object of another tool": (
        b'{"last_train_time": 1712345678, "symbol": "BTC"}',
        "found a JSON object without 'log_history' (the keys 'last_train_time', 'symbol'); "
        f"expected {HISTORY}. {LOOK}",
    ),
    "object with many keys": (
        b'{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}',
        "found a JSON object without 'log_history' (the keys 'a', 'b', 'c', 'd', 'e', 'f' and 2 "
        f"more); expected {HISTORY}. {LOOK}",
    ),
    "empty object": (
        b"{}",
        f"found a JSON object without 'log_history' (no keys); expected {HISTORY}. {LOOK}",
    ),
    "step alone": (
        b'{"step": 3}',
        f"found a JSON object without 'log_history' (the keys 'step'); expected {HISTORY}. {LOOK}",
    ),
    "number": (
        b"12",
        f"found a JSON document that is the integer 12; expected {HISTORY}. {LOOK}",
    ),
    "NaN": (
        b"NaN",
        f"found a JSON document that is the number nan; expected {HISTORY}. {LOOK}",
    ),
    "string": (
        b'"Entry not found"',
        f"found a JSON document that is the text 'Entry not found'; expected {HISTORY}. {LOOK}",
    ),
    "null": (b"null", f"found a JSON document that is null; expected {HISTORY}. {LOOK}"),
    "true": (
        b"true",
        f"found a JSON document that is the boolean true; expected {HISTORY}. {LOOK}",
    ),
    "data set as JSON lines": (
        b'{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n',
        "found no 'step' in any of its rows (the first has the keys 'text', 'label'); "
        f"expected {HISTORY}. {LOOK}",
    ),
    "LLaMA-Factory's trainer_log.jsonl": (
        b'{"current_steps": 5, "loss": 1.2}\n{"current_steps": 10, "loss": 1.1}\n',
        "found no 'step' in any of its rows (the first has the keys 'current_steps', 'loss'); "
        f"expected {HISTORY}. {LOOK}",
    ),
    "two states joined": (
        in_state(ROW) + b"\n" + in_state(ROW),
        "found no 'step' in any of its rows (the first has the keys 'global_step', "
        f"'log_history'); expected {HISTORY}. {LOOK}",
    ),
    "list of empty objects": (
        b"[{}, {}]",
        f"found no 'step' in any of its rows (the first has no keys); expected {HISTORY}. {LOOK}",
    ),
    "list of numbers": (
        b"[1.5, 1.4]",
        "log row 0: found the number 1.5; expected an object with the keys and values of one log "
        f"row. {FIX_ROW}",
    ),
    "plain text": (
        b"Entry not found",
        "line 1, column 1: found text that is not JSON ('Entry not found'); "
        f"expected {HISTORY}. Check which file you gave.",
    ),
    "CSV": (
        b"step,loss\n1,2.5\n",
        "line 1, column 1: found text that is not JSON ('step,loss'); "
        f"expected {HISTORY}. Check which file you gave.",
    ),
}

STATES = {
    "log_history null": (
        b'{"global_step": 1, "log_history": null}',
        f"key 'log_history': found null; expected a list of log rows. {FIX_VALUE}",
    ),
    "log_history object": (
        b'{"global_step": 1, "log_history": {"loss": 1}}',
        f"key 'log_history': found an object with 1 key; expected a list of log rows. {FIX_VALUE}",
    ),
    "log_history text": (
        b'{"global_step": 1, "log_history": "[]"}',
        f"key 'log_history': found the text '[]'; expected a list of log rows. {FIX_VALUE}",
    ),
    "global_step missing": (
        b'{"log_history": []}',
        "key 'global_step': found no such key; expected the key beside 'log_history'. "
        "Get the complete file, or pass only the list under 'log_history'.",
    ),
    "global_step float": (
        b'{"global_step": 1.0, "log_history": []}',
        f"key 'global_step': found the number 1.0; expected an integer. {FIX_VALUE}",
    ),
    "global_step text": (
        b'{"global_step": "1", "log_history": []}',
        f"key 'global_step': found the text '1'; expected an integer. {FIX_VALUE}",
    ),
    "global_step bool": (
        b'{"global_step": true, "log_history": []}',
        f"key 'global_step': found the boolean true; expected an integer. {FIX_VALUE}",
    ),
    "global_step null": (
        b'{"global_step": null, "log_history": []}',
        f"key 'global_step': found null; expected an integer. {FIX_VALUE}",
    ),
    "global_step beyond int64": (
        b'{"global_step": 9223372036854775808, "log_history": []}',
        f"key 'global_step': found the integer 9223372036854775808; expected {BIG}. {FIX_VALUE}",
    ),
    "global_step NaN": (
        b'{"global_step": NaN, "log_history": []}',
        f"key 'global_step': found the number nan; expected an integer. {FIX_VALUE}",
    ),
    "long text is cut": (
        b'{"global_step": 1, "log_history": [], "epoch": "' + b"x" * 500 + b'"}',
        f"key 'epoch': found the text '{'x' * 59}; expected a number or null. {FIX_VALUE}",
    ),
}

FIELDS = {  # field: (a value that is wrong, how the message shows it, what is right)
    "epoch": ('"1.5"', "the text '1.5'", "a number or null"),
    "max_steps": ("1.5", "the number 1.5", "an integer or null"),
    "num_train_epochs": ("[3]", "a list of 1 value", "a number or null"),
    "total_flos": ("true", "the boolean true", "a number or null"),
    "logging_steps": ('"500"', "the text '500'", "a number or null"),
    "eval_steps": ("{}", "an object with 0 keys", "a number or null"),
    "save_steps": ("false", "the boolean false", "a number or null"),
    "train_batch_size": ("8.0", "the number 8.0", "an integer or null"),
    "num_input_tokens_seen": ("true", "the boolean true", "an integer or null"),
    "best_metric": ("[0.5, 0.6]", "a list of 2 values", "a number or null"),
    "best_model_checkpoint": ("7", "the integer 7", "text or null"),
    "best_global_step": ("1e3", "the number 1000.0", "an integer or null"),
    "is_hyper_param_search": ("1", "the integer 1", "true, false or null"),
    "trial_name": ("3", "the integer 3", "text or null"),
    "trial_params": ('"lr"', "the text 'lr'", "an object or null"),
    "stateful_callbacks": ("[]", "a list of 0 values", "an object or null"),
}

ROWS = {
    **{
        f"row {name}": (
            in_state(ROW + b", " + value),
            f"log row 1: found {shown}; expected an object with the keys and values of one log "
            f"row. {FIX_ROW}",
        )
        for name, value, shown in (
            ("number", b"5", "the integer 5"),
            ("null", b"null", "null"),
            ("list", b"[1, 2]", "a list of 2 values"),
            ("text", b'"loss"', "the text 'loss'"),
            ("bool", b"false", "the boolean false"),
        )
    },
    **{
        f"step {name}": (
            in_state(ROW + b', {"loss": 1.5, "step": ' + value + b"}"),
            f"log row 1, key 'step': found {shown}; expected {expected}. {FIX_ROW}",
        )
        for name, value, shown, expected in (
            ("float", b"2.0", "the number 2.0", "an integer"),
            ("text", b'"2"', "the text '2'", "an integer"),
            ("bool", b"true", "the boolean true", "an integer"),
            ("list", b"[2]", "a list of 1 value", "an integer"),
            ("NaN", b"NaN", "the number nan", "an integer"),
            ("beyond int64", b"9223372036854775808", "the integer 9223372036854775808", BIG),
            ("below -2^63", b"-9223372036854775809", "the integer -9223372036854775809", BIG),
        )
    },
    **{
        f"epoch {name}": (
            in_state(ROW + b', {"loss": 1.5, "step": 2, "epoch": ' + value + b"}"),
            f"log row 1, key 'epoch': found {shown}; expected a number. {FIX_ROW}",
        )
        for name, value, shown in (
            ("text", b'"0.5"', "the text '0.5'"),
            ("bool", b"true", "the boolean true"),
            ("list", b"[0.5]", "a list of 1 value"),
            ("object", b'{"a": 1}', "an object with 1 key"),
        )
    },
    "one row with a step of text": (
        b'{"loss": 1.5, "step": "1"}',
        f"log row 0, key 'step': found the text '1'; expected an integer. {FIX_ROW}",
    ),
    "row of a bare list": (
        b'[{"loss": 1.5, "step": 1}, {"loss": 1.5, "step": 1.5}]',
        f"log row 1, key 'step': found the number 1.5; expected an integer. {FIX_ROW}",
    ),
    "row of JSON lines is no object": (
        ROW + b"\n\n" + ROW + b"\n[5]\n" + ROW,
        "log row 2: found a list of 1 value; expected an object with the keys and values of one "
        f"log row. {FIX_ROW}",
    ),
}

SYNTAX = {
    "comma before }": (
        b'{\n  "global_step": 1,\n  "log_history": [],\n}',
        "line 3, column 20: found a comma before the closing bracket (','); expected valid JSON. "
        "Remove that comma.",
    ),
    "comma before ]": (
        in_state(ROW + b","),
        "line 1, column 60: found a comma before the closing bracket (',]}'); "
        "expected valid JSON. Remove that comma.",
    ),
    "single quotes (a printed dict)": (
        b"{'loss': 1.5, 'step': 1}",
        "line 1, column 2: found a single quote (\"'loss': 1.5, 'step': 1}\"); expected valid "
        "JSON. Write the file with json.dump: a printed Python dict is not JSON.",
    ),
    "comment //": (
        b'{\n  // the state\n  "global_step": 1}',
        "line 2, column 3: found a comment ('// the state'); expected valid JSON. "
        "Remove it: JSON has no comments.",
    ),
    "comment #": (
        in_state(ROW + b", # resumed\n" + ROW),
        "line 1, column 62: found a comment ('# resumed'); expected valid JSON. "
        "Remove it: JSON has no comments.",
    ),
    "missing colon": (
        in_state(b'{"loss" 1.5, "step": 1}'),
        f"line 1, column 44: found '1.5, \"step\": 1}}]}}'; expected a colon after the key. {MEND}",
    ),
    "missing comma": (
        in_state(b'{"loss": 1.5 "step": 1}'),
        "line 1, column 49: found '\"step\": 1}]}'; expected a comma or a closing bracket. "
        f"{MEND}",
    ),
    "missing quote": (
        in_state(b'{"loss: 1.5, "step": 1}'),
        f"line 1, column 50: found 'step\": 1}}]}}'; expected a colon after the key. {MEND}",
    ),
    "missing value": (
        in_state(b'{"loss": , "step": 1}'),
        f"line 1, column 45: found ', \"step\": 1}}]}}'; expected a value. {MEND}",
    ),
    "bare word": (
        in_state(b'{"loss": high, "step": 1}'),
        f"line 1, column 45: found 'high, \"step\": 1}}]}}'; expected a value. {MEND}",
    ),
    "unquoted key": (
        in_state(b'{loss: 1.5, "step": 1}'),
        f"line 1, column 37: found 'loss: 1.5, \"step\": 1}}]}}'; expected a key in double "
        f"quotes. {MEND}",
    ),
    "Python constant": (
        in_state(b'{"ok": True, "step": 1}'),
        "line 1, column 43: found a Python constant ('True, \"step\": 1}]}'); expected valid "
        "JSON. Write true, false or null instead.",
    ),
    "nan in lower case": (
        in_state(b'{"loss": nan, "step": 1}'),
        "line 1, column 45: found a misspelt number ('nan, \"step\": 1}]}'); expected valid "
        "JSON. Write NaN, Infinity or -Infinity.",
    ),
    "+inf": (
        in_state(b'{"loss": +inf, "step": 1}'),
        "line 1, column 45: found a misspelt number ('+inf, \"step\": 1}]}'); expected valid "
        "JSON. Write NaN, Infinity or -Infinity.",
    ),
    "leading zero": (
        in_state(b'{"loss": 01.5, "step": 1}'),
        "line 1, column 46: found a number that begins with 0 ('1.5, \"step\": 1}]}'); expected "
        "valid JSON. Remove that 0.",
    ),
    "line break inside of a string": (
        in_state(b'{"note": "a\nb", "step": 1}'),
        "line 1, column 47: found a line break or control character inside a string "
        '(\'b", "step": 1}]}\'); expected valid JSON. Escape it.',
    ),
    "control character inside a string": (
        in_state(b'{"note": "a\x07b", "step": 1}'),
        "line 1, column 47: found a line break or control character inside a string "
        '(\'\\x07b", "step": 1}]}\'); expected valid JSON. Escape it.',
    ),
    "unknown escape (a Windows path)": (
        b'{"best_model_checkpoint": "C:\\models", "log_history": []}',
        'line 1, column 30: found \'\\\\models", "log_history": []}\'; expected a JSON escape, '
        f"such as \\n or \\u00e9. {MEND}",
    ),
    "document after the document": (
        in_state(ROW) + b"{}",
        f"line 1, column 62: found '{{}}'; expected the end of the file. {MEND}",
    ),
    "bracket too many": (
        b'{\n"log_history": []\n}}',
        f"line 3, column 2: found '}}'; expected the end of the file. {MEND}",
    ),
    "text after the document": (
        b'{\n"log_history": []\n}\nSaved.',
        f"line 4, column 1: found 'Saved.'; expected the end of the file. {MEND}",
    ),
    "bracket of another kind": (
        b'{"log_history": [}',
        f"line 1, column 18: found '}}'; expected a value. {MEND}",
    ),
    "third of the JSON lines": (
        ROW + b"\n" + ROW + b'\n{"loss": }\n' + ROW,
        f"line 3, column 10: found '}}'; expected a value. {MEND}",
    ),
    "a cut off line among the JSON lines": (
        ROW + b"\n" + ROW + b'\n{"loss": 1.\n' + ROW,
        "line 3, column 11: found the end of the line inside a value; expected valid JSON. "
        "Remove that line: its save was cut off.",
    ),
    "text among the JSON lines": (
        ROW + b"\nepoch 1 done\n" + ROW,
        "line 2, column 1: found text that is not JSON ('epoch 1 done'); "
        f"expected {HISTORY}. Check which file you gave.",
    ),
    "integer of 5000 digits": (
        in_state(b'{"loss": ' + b"7" * 5000 + b', "step": 1}'),
        "line 1, column 45: found an integer of 5000 digits; expected numbers of at most 4300 "
        "digits. Fix that number.",
    ),
    "absurd nesting in a row": (
        in_state(b'{"x": ' + b"[" * 1000 + b"]" * 1000 + b"}"),
        f"line 1, column 240: found values nested more than 200 levels deep; expected {HISTORY}. "
        "This is not a log history: check which file you gave.",
    ),
    "absurd nesting in the header": (
        b'{\n"a":\n' + b"[" * 100_000,
        f"line 3, column 201: found values nested more than 200 levels deep; expected {HISTORY}. "
        "This is not a log history: check which file you gave.",
    ),
    "absurd nesting in JSON lines": (
        ROW + b"\n" + b'{"a":' * 100_000,
        f"line 2, column 1006: found values nested more than 200 levels deep; expected {HISTORY}. "
        "This is not a log history: check which file you gave.",
    ),
}

TRUNCATED = {
    "after the first bracket": (b"{", f"line 1, column 2: {CUT_OFF}"),
    "inside a key": (OPEN + b'{"loss": 1.5, "st', f"line 1, column 50: {CUT_OFF}"),
    "inside a number": (OPEN + ROW + b', {"loss": 1.', f"line 1, column 72: {CUT_OFF}"),
    "after a sign": (OPEN + ROW + b', {"loss": -', f"line 1, column 71: {CUT_OFF}"),
    "inside NaN": (OPEN + ROW + b', {"loss": Na', f"line 1, column 71: {CUT_OFF}"),
    "inside null": (OPEN + ROW + b', {"loss": nul', f"line 1, column 71: {CUT_OFF}"),
    "inside a string": (OPEN + ROW + b', {"note": "a', f"line 1, column 71: {CUT_OFF}"),
    "inside an escape": (OPEN + ROW + b', {"note": "\\u00', f"line 1, column 73: {CUT_OFF}"),
    "inside a character": (OPEN + ROW + b', {"note": "\xc3', f"line 1, column 72: {CUT_OFF}"),
    "after a key": (OPEN + ROW + b', {"loss"', f"line 1, column 69: {CUT_OFF}"),
    "after a colon": (OPEN + ROW + b', {"loss":', f"line 1, column 70: {CUT_OFF}"),
    "inside a row": (OPEN + b'{"loss": 1.5, "step": 1', f"line 1, column 59: {CUT_OFF}"),
    "after a row": (OPEN + ROW, f"line 1, column 60: {CUT_OFF}"),
    "after a comma": (OPEN + ROW + b",", f"line 1, column 61: {CUT_OFF}"),
    "after the rows": (OPEN + ROW + b"],\n", f"line 2, column 1: {CUT_OFF}"),
    "bare list": (b"[\n" + ROW + b",\n" + ROW, f"line 3, column 25: {CUT_OFF}"),
    "JSON lines": (ROW + b"\n" + ROW[:15], f"line 2, column 15: {CUT_OFF}"),
    "wrapped table between lines": (
        b'| { | |\n| "global_step": 1, | |\n',
        f"line 2, column 20: {CUT_OFF}",
    ),
}


def message_of(location: str) -> str:
    with pytest.raises(SourceError) as caught:
        list(TrainerStateSource().read(location, ReadOptions()))
    return str(caught.value)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


CASES = {
    **OTHER_KINDS,
    **ENCODINGS,
    **TABLES,
    **OTHER_JSON,
    **STATES,
    **ROWS,
    **SYNTAX,
    **{f"cut off {place}": case for place, case in TRUNCATED.items()},
    **{
        f"{field} of another type": (
            f'{{"global_step": 1, "log_history": [], "{field}": {value}}}'.encode(),
            f"key {field!r}: found {shown}; expected {expected}. {FIX_VALUE}",
        )
        for field, (value, shown, expected) in FIELDS.items()
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_explained(name: str) -> None:
    data, message = CASES[name]
    Path("trainer_state.json").write_bytes(data)
    assert message_of("trainer_state.json") == f"trainer_state.json: {message}"


def test_a_missing_file_is_its_own_error() -> None:
    with pytest.raises(MissingSourceError) as caught:
        list(TrainerStateSource().read("runs/trainer_state.json", ReadOptions()))
    assert str(caught.value) == (
        f"runs/trainer_state.json: found nothing there; expected {HISTORY}. "
        "Check the path; `-` reads standard input."
    )


def test_a_directory_without_a_state() -> None:
    Path("checkpoint-5").mkdir()
    assert message_of("checkpoint-5") == (
        f"checkpoint-5: found a directory; expected {HISTORY}. "
        "Give the trainer_state.json inside it."
    )


def test_a_directory_with_a_state_names_it() -> None:
    Path("checkpoint-5").mkdir()
    Path("checkpoint-5/trainer_state.json").write_bytes(in_state(ROW))
    inside = os.path.join("checkpoint-5", "trainer_state.json")
    assert message_of("checkpoint-5") == (
        f"checkpoint-5: found a directory; expected {HISTORY}. Give the file: {inside}"
    )


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "a\0b.json",
            f"a\\x00b.json: found an invalid file name; expected {HISTORY}. "
            "Check the path; `-` reads standard input.",
        ),
        (
            "x" * 300,
            f"{'x' * 300}: found a file that cannot be read (File name too long); expected a "
            "readable file. Check its permissions and its name.",
        ),
        (
            "trainer_state.json/x",
            "trainer_state.json/x: found a file that cannot be read (Not a directory); expected "
            "a readable file. Check its permissions and its name.",
        ),
        (
            "gopher://host/trainer_state.json",
            "gopher://host/trainer_state.json: found a URL with an unknown protocol; expected a "
            "URL that fsspec can open. Use a supported protocol, such as https, hf, s3, gs or "
            "memory.",
        ),
        (
            "memory://nowhere/trainer_state.json",
            f"memory://nowhere/trainer_state.json: found nothing there; expected {HISTORY}. "
            "Check the path; `-` reads standard input.",
        ),
    ],
    ids=["NUL in the name", "name too long", "file as directory", "protocol", "URL of nothing"],
)
def test_a_bad_location_is_explained(location: str, message: str) -> None:
    Path("trainer_state.json").write_bytes(in_state(ROW))
    assert message_of(location) == message


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_explained() -> None:
    path = Path("trainer_state.json")
    path.write_bytes(in_state(ROW))
    path.chmod(0)
    assert message_of("trainer_state.json") == (
        "trainer_state.json: found a file that cannot be read (Permission denied); "
        "expected a readable file. Check its permissions and its name."
    )


NOT_A_ROW = (
    f"found a file that ends before its first complete log row; expected {HISTORY}. "
    "Nothing can be salvaged: use an earlier checkpoint's file."
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", NOT_A_ROW),
        (OPEN + b'{"loss": 1', NOT_A_ROW),
        (b"[", NOT_A_ROW),
        (ROW[:9], NOT_A_ROW),
        (packed(in_state(ROW))[:30], NOT_A_ROW),
        (packed(in_state(ROW))[:10], f"found an empty file; expected {HISTORY}. {EARLIER}"),
    ],
    ids=["header", "state", "list", "line", "gzip", "gzip header"],
)
def test_nothing_can_be_salvaged_before_the_first_whole_row(data: bytes, message: str) -> None:
    Path("trainer_state.json").write_bytes(data)
    with pytest.raises(BridgeError) as caught:
        list(TrainerStateSource().read("trainer_state.json", ReadOptions(salvage=True)))
    assert str(caught.value) == f"trainer_state.json: {message}"


@pytest.mark.parametrize("name", sorted(SYNTAX))
def test_salvage_is_for_cut_off_files_only(name: str) -> None:
    data, message = SYNTAX[name]
    Path("trainer_state.json").write_bytes(data)
    with pytest.raises(SourceError) as caught:
        list(TrainerStateSource().read("trainer_state.json", ReadOptions(salvage=True)))
    assert str(caught.value) == f"trainer_state.json: {message}"
