"""Names of the files in an output directory, by which they are sorted before any is read."""

from __future__ import annotations

import re

STATE_NAME = re.compile(r"trainer_state[\w. -]*\.json(\.gz)?\Z")  # and copies with a longer name
TOOL_LOG_NAME = re.compile(r"(trainer_log|logging)[\w. -]*\.jsonl(\.gz)?\Z")
HISTORY_NAME = re.compile(f"{STATE_NAME.pattern}|{TOOL_LOG_NAME.pattern}")
RESULTS_NAME = re.compile(r"\w+_results\.json\Z")
EVENTS_NAME = re.compile(r"events\.out\.tfevents\.(\d{9,11})\.")
# TensorBoard reads every file with `tfevents` in its name; not so the metadata of macOS, notes, and
# the marks of the profiler and of SageMaker
EVENT_FILE_NAME = re.compile(
    r"\A(?!\._).*tfevents(?!.*\.(md|profile-empty|sagemaker-uploaded)(\.gz)?\Z)", re.DOTALL
)

CARD = "README.md"
ARGUMENTS = "training_args.bin"
SETTINGS_NAMES = (  # later files override earlier ones
    CARD,
    "config.json",
    "adapter_config.json",
    "args.json",
    "training_args.yaml",
    ARGUMENTS,
)
