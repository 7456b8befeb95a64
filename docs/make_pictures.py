"""Makes the pictures of docs/img from real runs: run as `python -m docs.make_pictures`.

The screenshot of TensorBoard needs Chromium; `--no-browser` leaves it out.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import bridges
from bridges.exporters.memory import MemoryExporter
from bridges.stream.options import XAxis
from docs.samples import write_samples

IMAGES = Path(__file__).parent / "img"
COLUMNS = 100
COMMANDS = ("bridge inspect outputs", *["bridge export outputs/grpo --to tensorboard"] * 2)
TAGS = "^train/(loss|learning_rate)$"
TITLES = ["train/learning_rate", "train/loss"]
# as rich's own, without its fonts from another server
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-family: system-ui, sans-serif; font-weight: bold; font-size: 18px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


# --- terminal ---------------------------------------------------------------------------------


def screen(command: str, folder: Path, columns: int = COLUMNS) -> str:
    """The output of a command in a terminal of so many columns, with its colours."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    unset = ("COLUMNS", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PATH": path, "TERM": "xterm-256color"}
    with subprocess.Popen(
        command.split(), cwd=folder, stdout=terminal, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(terminal)
        shown = b"".join(_chunks(main))
    os.close(main)
    assert process.returncode in (0, 1), shown.decode()  # 1: `bridge diff` found a difference
    return shown.decode().replace("\r\n", "\n")


def _chunks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            return
        if not chunk:
            return
        yield chunk


def session(folder: Path) -> Text:
    """The commands of the picture with their outputs."""
    shown = Text()
    for command in COMMANDS:
        shown.append("$ ", "bold green")
        shown.append(f"{command}\n", "bold")
        shown.append_text(Text.from_ansi(screen(command, folder).strip()))
        shown.append("\n\n")
    shown.rstrip()
    return shown


def terminal_svg(shown: Text, columns: int = COLUMNS) -> str:
    """The picture of a terminal with this text."""
    with open(os.devnull, "w") as nowhere:
        console = Console(
            record=True, width=columns, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(shown)
        return console.export_svg(
            title="bridge", theme=MONOKAI, code_format=SVG, unique_id="terminal"
        )


# --- charts -----------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 240, 64, 16, 30, 40


def loss_chart(folder: Path, x_axis: XAxis) -> str:
    """The loss of the streamed run over its x-axis, as a target holds it."""
    target = MemoryExporter()
    report = bridges.export(folder / "outputs" / "streamed", to=target, x_axis=x_axis)
    assert report.exit_code == 0
    (stored,) = target.runs.values()
    points = target.read_back(stored.run).points["loss"]
    label = "step" if x_axis == "step" else "step = round(epoch × 1000)"
    return chart(points.step.tolist(), points.value.tolist(), "loss", label)


def chart(steps: Sequence[int], values: Sequence[float], title: str, label: str) -> str:
    """An SVG of one line through points, in their order."""
    x = _scaled(steps, LEFT, WIDTH - RIGHT)
    y = _scaled(values, HEIGHT - BOTTOM, TOP)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    marks = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4"><title>step {step}: {value:.4g}</title></circle>'
        for a, b, step, value in zip(x, y, steps, values, strict=True)
    )
    ticks = "".join(
        f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>'
        for at, step in dict(zip(x, steps, strict=True)).items()
    )
    ends = "".join(
        f'<text x="{LEFT - 8}" y="{at:.1f}" text-anchor="end">{value:.3g}</text>'
        for at, value in ((TOP + 4, max(values)), (HEIGHT - BOTTOM + 4, min(values)))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#888">\n'
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>\n'
        f'<text x="{LEFT}" y="16" font-weight="bold">{title}</text>\n'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{label}</text>\n'
        f"{ticks}\n{ends}\n"
        f'<polyline points="{line}" fill="none" stroke="#f57c00" stroke-width="2"/>\n'
        f'<g fill="#f57c00">{marks}</g>\n</svg>\n'
    )


def _scaled(values: Sequence[float], first: float, last: float) -> list[float]:
    low, high = min(values), max(values)
    return [first + (value - low) / (high - low) * (last - first) for value in values]


# --- TensorBoard ------------------------------------------------------------------------------


def tensorboard_png(folder: Path) -> tuple[bytes, list[str]]:
    """A screenshot of TensorBoard on the example run, and the titles of its charts."""
    from tests.integration.browser import chromium_page

    logdir = folder / "example"
    report = bridges.export(folder / "configs" / "example-run", to="tensorboard", logdir=logdir)
    assert report.exit_code == 0
    with tensorboard(logdir) as url, chromium_page("tensorboard", height=520) as page:
        page.set_default_timeout(60_000)
        page.set_viewport_size({"width": 1200, "height": 520})
        page.goto(f"{url}?tagFilter={TAGS}&smoothing=0#timeseries")
        page.get_by_text("Enable step selection and data table").click()
        page.get_by_label("Toggle settings side pane").click()
        page.locator("scalar-card line-chart").nth(1).wait_for()
        page.wait_for_timeout(3000)  # the lines are drawn in frames of their own
        titles = page.locator("scalar-card .tag").all_inner_texts()
        return page.screenshot(), ["".join(title.split()) for title in titles]


def report_png(folder: Path) -> tuple[bytes, str]:
    """A screenshot of the page of `bridge report`, and its text."""
    from tests.integration.browser import chromium_page

    screen("bridge report experiments -o report.html", folder)
    with chromium_page("report", height=620) as page:
        page.set_viewport_size({"width": 1100, "height": 620})
        page.goto((folder / "report.html").as_uri())
        page.locator("canvas").first.wait_for()
        page.wait_for_timeout(1000)  # the lines are drawn in frames of their own
        return page.screenshot(), page.inner_text("body")


@contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read a log directory."""
    from tests.servers import free_port

    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [*command, "--port", str(port), "--load_fast=false"], stdout=quiet, stderr=quiet
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}/"
            expected = len([*logdir.glob("*/events.*")])
            while _runs(url) < expected:
                assert server.poll() is None, "TensorBoard has ended"
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()


def _runs(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}data/runs") as answer:
            return len(json.load(answer))
    except OSError:
        return 0


def main(arguments: list[str]) -> None:
    """Make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder)
        (IMAGES / "terminal.svg").write_text(terminal_svg(session(folder)), "utf-8")
        (IMAGES / "steps.svg").write_text(loss_chart(folder, "step"), "utf-8")
        (IMAGES / "epochs.svg").write_text(loss_chart(folder, "epoch"), "utf-8")
        if "--no-browser" not in arguments:
            png, titles = tensorboard_png(folder)
            assert titles == TITLES
            (IMAGES / "tensorboard.png").write_bytes(png)
            (IMAGES / "report.png").write_bytes(report_png(folder)[0])


if __name__ == "__main__":
    main(sys.argv[1:])
