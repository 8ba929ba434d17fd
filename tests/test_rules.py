"""One rule, one name, four places: its module, its test, its page and its id. And the pages' form."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest

import truerun
from truerun.core.finding import Confidence, Severity
from truerun.core.rule import Rule

PACKAGE = pathlib.Path(truerun.__file__).parent
ROOT = pathlib.Path(__file__).parent.parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if re.search(r"^RULE = Rule\(", path.read_text(), re.MULTILINE))
PAGES = sorted((ROOT / "docs" / "rules").glob("*.md"))
SECTIONS = [
    "What it catches",
    "Example",
    "How to fix it",
    "Severity and confidence",
    "What it costs",
    "What it cannot see",
    "MITRE ATLAS",
]


def rule_of(path: pathlib.Path) -> Rule:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    rule = importlib.import_module(name).RULE
    assert isinstance(rule, Rule)
    return rule


def test_the_four_sets_are_equal():
    """Source file, test file, docs page and report id of every rule carry one name."""
    modules = {path.stem.replace("_", "-") for path in MODULES}
    ids = {rule_of(path).id for path in MODULES}
    pages = {path.stem for path in PAGES if path.stem != "index"}
    tests = {path.stem.removeprefix("test_").replace("_", "-") for path in (ROOT / "tests").rglob("test_*.py")}
    assert modules == ids
    assert ids - pages == set(), "rules without a page in docs/rules"
    assert pages - ids == set(), "pages without a rule"
    assert ids - tests == set(), "rules without a test file of their name"


def test_no_two_modules_share_a_rule():
    ids = [rule_of(path).id for path in MODULES]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_rule_is_well_formed(path):
    """Kebab-case id, a summary in plain words without a full stop, an ATLAS id or none."""
    rule = rule_of(path)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.id)
    assert 10 < len(rule.summary) < 120
    assert not rule.summary.endswith(".")
    assert isinstance(rule.severity, Severity)
    assert isinstance(rule.confidence, Confidence)
    assert rule.atlas is None or re.fullmatch(r"AML\.T\d{4}(\.\d{3})?", rule.atlas)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_sections(page):
    """Every page is titled by its rule and has the same sections in the same order."""
    if page.stem == "index":
        return
    lines = page.read_text().splitlines()
    assert lines[0] == f"# {page.stem}"
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == SECTIONS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_page_names_the_technique_of_the_rule(path):
    """The ATLAS technique in the page is the one in the code."""
    rule = rule_of(path)
    page = ROOT / "docs" / "rules" / f"{rule.id}.md"
    if not page.is_file():
        pytest.fail(f"no page {page.name}")
    section = page.read_text().partition("## MITRE ATLAS")[2]
    assert (rule.atlas or "None").lower() in section.lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([a-z-]+\.md)\)", page.read_text()):
        assert (page.parent / target).is_file(), f"{page.name} links to {target}"
