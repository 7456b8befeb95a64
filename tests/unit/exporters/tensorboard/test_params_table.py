"""The params on TensorBoard's Text page: Markdown that shows each text, and that is read back."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

import bridges
from bridges.exporters.tensorboard.records import PARAMS_TAG, params_in
from tests.support import state

TEXTS = (
    *("a|b", "x\\| y", "\\|", "C:\\new\\|x", "C:\\dir\\", "\\", "a\\\\"),
    *(
        "**bold** and _it_",
        "*.py",
        "__init__",
        "x_",
        "é_",
        "a_b_c",
        "`code`",
        "`",
        "\\_x",
        "C:\\*x",
    ),
    *("<LOGIN>", "<b>bold</b>", "<https://host>", "1 < 2", "[a](b)", "![a](b)", "[1, 2]"),
    *("&amp; & b", "&#42;", "&copy;", "- item", "# no", "https://host/x", "", "\N{SNOWMAN}"),
)


def table_of(folder: Path, params: dict[str, object]) -> str:
    """The table that an export of a run with these settings has written."""
    (folder / "run").mkdir()
    rows = [{"loss": 1.0, "step": 1}]
    (folder / "run" / "trainer_state.json").write_bytes(state(rows, global_step=1))
    (folder / "run" / "config.json").write_text(json.dumps(params))
    logdir = str(folder / "logs")
    assert bridges.export(folder / "run", to="tensorboard", logdir=logdir).exit_code == 0
    read = EventAccumulator(f"{logdir}/run").Reload()
    (event,) = read.Tensors(PARAMS_TAG)
    text: str = event.tensor_proto.string_val[0].decode()
    return text


def shown(table: str) -> dict[str, str]:
    """The settings and values that TensorBoard shows."""
    rows = re.findall(r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", markdown_to_safe_html(table), re.S)
    return {html.unescape(key): html.unescape(value) for key, value in rows}


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_is_shown_as_it_is(tmp_path: Path, text: str) -> None:
    table = table_of(tmp_path, {"own_key": text, text or "k": 1, "numbers": [1, {"a": None}]})
    cells = shown(table)
    assert (cells["own_key"], cells[text or "k"]) == (text, "1")
    assert cells["numbers"] == '[1, {"a": null}]'
    assert params_in(table)["own_key"] == text


def test_a_table_of_an_earlier_version_is_read() -> None:
    earlier = "|setting|value|\n|-|-|\n|*a_|C:\\\\x\\_y|\n|b|**x** \\| [y](z) &amp;|"
    assert params_in(earlier) == {"*a_": "C:\\x\\_y", "b": "**x** | [y](z) &amp;"}
