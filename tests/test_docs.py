"""The documentation cannot lie by omission: commands, options, rules, keys, exit codes and links are held to the code."""

import dataclasses
import importlib
import pkgutil
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
import yaml

from truerun.apps.cli.main import COMMANDS
from truerun.core import errors
from truerun.core.declaration import Declaration

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
RULE = re.compile(r'^RULE = Rule\(\s*id="([a-z][a-z-]*)"', re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def rules() -> list[str]:
    sources = (
        path.read_text() for room in ("inspection", "monitoring") for path in (ROOT / "src" / "truerun" / room).rglob("*.py")
    )
    return sorted(rule for source in sources for rule in RULE.findall(source))


def commands(name: str) -> Iterator[tuple[str, click.Command]]:
    command = importlib.import_module(f"truerun.apps.cli.{name}").command
    yield name, command
    if isinstance(command, click.Group):
        yield from ((f"{name} {inner}", item) for inner, item in command.commands.items())


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def keys(kind: type, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        options = [hint for hint in _options(hints[field.name]) if isinstance(hint, type) and dataclasses.is_dataclass(hint)]
        yield from (key for option in options for key in keys(option, f"{prefix}{field.name}."))
        if not options:
            yield f"{prefix}{field.name}"


def _options(hint: object) -> list[object]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [inner for option in typing.get_args(hint) for inner in _options(option)]
    if typing.get_origin(hint) is Mapping or typing.get_origin(hint) is dict:
        return _options(typing.get_args(hint)[1])
    return [hint]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_every_option(name):
    found = sections((REFERENCE / "cli.md").read_text())
    shared = found["The command line"]
    for called, command in commands(name):
        assert f"truerun {called}" in found, f"docs/reference/cli.md has no section for truerun {called}"
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                documented = f"`{option}`" in found[f"truerun {called}"] or f"`{option}`" in shared
                assert documented, f"docs/reference/cli.md: truerun {called} does not say {option}"


def test_the_list_of_rules_says_of_each_what_the_rule_says_of_itself():
    rows = re.findall(
        r"^\| \[([a-z-]+)\]\(\1\.md\) \| (.*) \| (\w+) \| (\w+) \|$", (DOCS / "rules" / "index.md").read_text(), re.MULTILINE
    )
    rooms = (importlib.import_module(f"truerun.{room}") for room in ("inspection", "monitoring"))
    names = [item.name for room in rooms for item in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    found = [rule for name in names if (rule := getattr(importlib.import_module(name), "RULE", None)) is not None]
    told = {(rule.id, rule.summary, rule.severity.value, rule.confidence.value) for rule in found}
    assert set(rows) == told
    assert sorted(row[0] for row in rows) == rules()


@pytest.mark.parametrize("key", sorted(keys(Declaration)))
def test_every_key_of_the_declaration_is_documented(key):
    section, _, name = key.partition(".")
    found = sections((REFERENCE / "declaration.md").read_text())
    (text,) = [text for title, text in found.items() if title.startswith((f"`[{section}]`", f"`[{section}."))]
    assert f"| `{name}`" in text or not name, f"docs/reference/declaration.md does not say {key}"


def test_every_exit_code_is_documented():
    text = (REFERENCE / "exit-codes.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TruerunError)]
    for code in {0, 1, 4, 130, *(kind.exit_code for kind in kinds)}:
        assert f"| {code} |" in text


def test_every_page_is_in_the_navigation_and_every_entry_of_it_is_a_page():
    def files(part) -> Iterator[str]:
        for item in part if isinstance(part, list) else part.values():
            if isinstance(item, str):
                yield item
            else:
                yield from files(item)

    listed = list(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(listed) == len(set(listed))
    assert set(listed) == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


@pytest.mark.parametrize("page", sorted(str(page.relative_to(ROOT)) for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]))
def test_every_link_leads_somewhere(page):
    folder = (ROOT / page).parent
    for target in LINK.findall((ROOT / page).read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (folder / target).exists(), f"{page} links to {target}"
