"""README, changelog and package metadata agree; its commands run in tests/integration/docs."""

from __future__ import annotations

import re
import sys

import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from docs.package_readme import for_index

from bridges.errors import DISTRIBUTION, MissingDependencyError
from bridges.exporters.tensorboard.exporter import ALL_POINTS
from tests.support import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def test_the_readme_fits_a_few_screens() -> None:
    assert len(README.splitlines()) <= 120


def test_the_readme_says_which_server_was_not_tested() -> None:
    assert "no real W&B server is part of the tests" in " ".join(README.split())


def test_the_figures_are_those_of_the_benchmarks() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| **Fast: ")]
    figures = re.findall(r"([\d.]+(?: to [\d.]+)?) times", "\n".join(rows))
    assert len(figures) >= 6
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    assert [each for each in figures if not re.search(rf"\| {each} (\(|\|)", page)] == []


def test_links_of_the_readme_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    assert len(links) > 15
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_readme_of_the_package_has_no_links_into_the_repository() -> None:
    shown = for_index(README)
    assert "![" not in shown
    assert re.findall(r"\]\((?!https?://)", shown) == []
    assert "finding, which `bridge explain` explains" in shown
    assert re.sub(r"\W", "", shown) == re.sub(r"\W", "", _without_targets(README))


def _without_targets(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.startswith("!["))
    return re.sub(r"\]\([^)]*\)", "", "\n".join(lines))


def test_the_package_has_a_name_of_its_own() -> None:
    """`bridges` on the package index is another project: no message may name it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert project["name"] == DISTRIBUTION == "tracker-bridges"
    assert set(project["scripts"]) == {"bridge", "bridges"}
    named = re.compile(r"\b(?<![\w-])bridges\[|pip install '?bridges\b")
    patterns = ("src/**/*.py", "docs/**/*.md", "configs/*.yaml", "README.md", "CONTRIBUTING.md")
    texts = [path for pattern in patterns for path in REPOSITORY.glob(pattern)]
    assert [path for path in texts if named.search(path.read_text())] == []
    wanted = [part for extra in extras.values() for part in extra if "bridges[" in part]
    assert all(part.startswith(f"{DISTRIBUTION}[") for part in wanted)
    used = re.findall(r"MissingDependencyError\([^,]+, \"(\w+)\"\)|pip_line\('(\w+)'\)", sources())
    assert {one or other for one, other in used} == {
        *("mlflow", "wandb", "dask", "postgresql", "parquet")
    }
    assert {one or other for one, other in used} <= set(extras)
    assert "pip install 'tracker-bridges[wandb]'" in str(MissingDependencyError("wandb", "wandb"))


def sources() -> str:
    return "".join(path.read_text() for path in REPOSITORY.glob("src/**/*.py"))


def test_the_option_of_tensorboard_is_the_printed_one() -> None:
    page = (REPOSITORY / "docs" / "targets" / "tensorboard.md").read_text()
    assert f"`--samples_per_plugin scalars={ALL_POINTS}`" in page


def test_the_changelog_is_of_this_version() -> None:
    from bridges import __version__

    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_citation_file_is_of_this_version() -> None:
    from bridges import __version__

    found = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert found["cff-version"] == "1.2.0"
    assert found["version"] == __version__
    assert {"title", "message", "authors", "license"} <= found.keys()


def test_the_files_of_github_are_what_it_reads() -> None:
    """The workflow itself is untested; it says so, and runs what is tested."""
    folder = REPOSITORY / ".github"
    forms = [yaml.safe_load(path.read_text()) for path in folder.glob("ISSUE_TEMPLATE/[!c]*.yml")]
    assert len(forms) == 2
    for form in forms:
        assert {"name", "description", "body"} <= form.keys()
        assert all({"type", "id", "attributes"} <= part.keys() for part in form["body"])
    workflow = (folder / "workflows" / "ci.yml").read_text()
    assert workflow.startswith("# Untested: no GitHub runner has run this workflow yet.")
    (job,) = yaml.safe_load(workflow)["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
