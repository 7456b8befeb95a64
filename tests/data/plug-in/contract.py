"""The contract suites, inherited by the plug-in's exporter and sources."""

from pathlib import Path

from bridges_plain import CsvSource, TsvSource
from bridges_plain.jsonl import JsonLinesExporter

from bridges.testing.exporters import ExporterContract, OpenTarget
from bridges.testing.sources import SourceContract


class TestJsonLines(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: JsonLinesExporter(str(folder / "runs"))


class TestCsv(SourceContract):
    source = CsvSource

    def write_run(self, folder: Path) -> str:
        path = folder / "log.csv"
        path.write_text("step,loss\n1,0.5\n2,0.25\n")
        return str(path)


class TestTsv(SourceContract):
    source = TsvSource

    def write_run(self, folder: Path) -> str:
        path = folder / "log.tsv"
        path.write_text("step\tloss\n1\t0.5\n2\t0.25\n")
        return str(path)
