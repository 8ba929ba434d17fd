"""What people do to a project's files: set a configuration value, edit or add code, add rows. Applied to the real files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from truerun.apps.demo.rows import PIXELS, Lot
from truerun.core.errors import InputError


class Edit(Protocol):
    """One change to the files below *root*."""

    def apply(self, root: Path) -> None:
        """Make the change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetValue:
    """Set `section.key`, or a key without section, in `config.yaml`; every other line stays as it is."""

    key: str
    value: Any

    def apply(self, root: Path) -> None:
        """Rewrite the one line; raises InputError when the key is not there."""
        path = root / "config.yaml"
        section, _, name = self.key.rpartition(".")
        lines = path.read_text(encoding="utf-8").splitlines()
        current = ""
        for number, line in enumerate(lines):
            if match := re.match(r"(\s*)([a-z_0-9]+):", line):
                current = match[2] if not match[1] else current
                if match[2] == name and (current == section if match[1] else not section):
                    lines[number] = f"{match[1]}{name}: {_yaml(self.value)}"
                    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
                    return
        raise InputError(f"config.yaml has no key {self.key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Replace the one place in a file that reads *old*."""

    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Edit the file; raises InputError unless *old* is there exactly once."""
        path = root / self.path
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise InputError(
                f"{self.path} does not read as expected", got=f"{text.count(self.old)} times", expected=self.old[:60]
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Add a file."""

    path: str
    text: str

    def apply(self, root: Path) -> None:
        """Write the file, with its folder."""
        path = root / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRows:
    """Append *lot* to `data/<table>.parquet` in the name of *contributor*; creates the table when it is not there."""

    table: str
    contributor: str
    lot: Lot

    def apply(self, root: Path) -> None:
        """Write the longer table; scans are numbered through."""
        import polars as pl

        path = root / "data" / f"{self.table}.parquet"
        known = pl.read_parquet(path) if path.exists() else None
        first = known.height if known is not None else 0
        frame = pl.DataFrame(
            {
                "scan": [f"{self.table}-{first + number:05d}" for number in range(len(self.lot))],
                **{name: self.lot.images[:, column] for column, name in enumerate(PIXELS)},
                "label": self.lot.labels,
                "added_by": [self.contributor] * len(self.lot),
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        (frame if known is None else pl.concat([known, frame])).write_parquet(path)


def _yaml(value: Any) -> str:
    """Numbers as people write them; YAML 1.1 reads 3e-05 as text, 3.0e-05 as a number."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")
    return text + ".0" if isinstance(value, float) and "e" not in text and "." not in text else text
