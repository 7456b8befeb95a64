"""The settings that the Trainer's callback for TensorBoard writes as texts: params of the run.

The Trainer's callbacks for other trackers log the same settings as params.
"""

from __future__ import annotations

from contextlib import suppress

from bridges.stream.finding import Finding
from bridges.stream.model import MetricStream

# tags, later ones override, with a setting that each has in every release
CERTAIN = {"model_config": "transformers_version", "args": "output_dir"}


def trainer_settings(
    stream: MetricStream, source: str, *, redact_home: bool
) -> tuple[dict[str, object], frozenset[str], list[Finding]]:
    """The settings in the texts of a stream, the keys of these texts, and masked secrets."""
    texts = {each.key: each.values for each in stream.series if not each.is_number}
    if texts.keys().isdisjoint(CERTAIN):  # the usual case
        return {}, frozenset(), []
    from bridges.sources.sidecars.live_params import read_config
    from bridges.sources.sidecars.settings_files import Settings

    settings, keys = Settings(redact_home), set[str]()
    for key, setting in CERTAIN.items():
        with suppress(ValueError, TypeError):
            found = read_config(texts[key][-1].encode()) if key in texts else {}
            if setting in found:
                settings.add(found, source)
                keys.add(key)
    return settings.params, frozenset(keys), settings.findings
