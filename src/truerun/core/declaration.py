"""The declaration: what people say a run will use, as written in `truerun.toml`. Strict: an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.codec import from_json
from truerun.core.errors import DeclarationError, FormatError

DATA_ROLES = ("training", "evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSection:
    """`[project]`: `command` is the command line as people type it; `critical` turns admission from a report into a gate."""

    name: str
    command: str
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """`[data.NAME]`: `path` is a file, glob or folder; `contributor` the column that says who added a row."""

    path: str
    label: str | None = None
    contributor: str | None = None
    id: str | None = None
    role: str = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSection:
    """`[config]`: files whose keys are locked; `protected` are key patterns (`optimizer.*`) that need an approval."""

    files: tuple[str, ...] = ()
    protected: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSection:
    """`[code]`: the project's own source, as globs."""

    files: tuple[str, ...] = ("**/*.py",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSection:
    """`[environment]`: `packages` is `all`, `none` or a list of distributions; `variables` are read besides those code reads."""

    packages: str | tuple[str, ...] = "all"
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsSection:
    """`[checkpoints]`: weights the run starts from, and the folder it writes to."""

    input: tuple[str, ...] = ()
    output: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSection:
    """`[metrics.NAME]`: `goal` is `max` or `min`; within `tolerance` (in the metric's unit) two runs count as equal."""

    goal: str = "max"
    tolerance: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsSection:
    """`[outputs]`: a table of predictions, one row an example; `label` and `prediction` (or `decision`) are its columns."""

    predictions: str
    label: str = "label"
    prediction: str = "prediction"
    decision: str | None = None
    groups: tuple[str, ...] = ()
    tolerance: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSection:
    """
    `[monitoring]`: `overhead` is the share of run time that watching may cost; `every` overrides it (1 = every step).

    Of `duplicate_batches` batches about one is given to two ranks, to compare what they make of it; 0 changes nothing.
    """

    overhead: float = 0.02
    every: int | None = None
    coordinates: int = 256
    between_steps: str = "forbidden"
    duplicate_batches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """
    `truerun.toml` as a value.

    `training` maps a hyperparameter (`optimizer`, `lr`, `weight_decay`, `betas`, `seed` …) to a literal or to
    `config:<key>`, which means the value that the locked configuration holds under that key.
    """

    project: ProjectSection
    data: Mapping[str, DataSection] = field(default_factory=dict)
    config: ConfigSection = ConfigSection()
    code: CodeSection = CodeSection()
    environment: EnvironmentSection = EnvironmentSection()
    checkpoints: CheckpointsSection = CheckpointsSection()
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, MetricSection] = field(default_factory=dict)
    outputs: OutputsSection | None = None
    monitoring: MonitoringSection = MonitoringSection()


def parse_declaration(table: Mapping[str, Any], *, path: str = "truerun.toml") -> Declaration:
    """Read the parsed TOML *table*; raises DeclarationError that names the key, what was got and what was expected."""
    try:
        declaration = from_json(Declaration, dict(table), "")
    except FormatError as error:
        raise DeclarationError(
            f"{path}: {error.message.replace(' at .', ' at ')}",
            got=error.got,
            expected=error.expected,
            next_step=f"correct {path}; docs/reference/declaration.md lists every key",
        ) from error
    _check_choices(declaration, path)
    return declaration


def _check_choices(declaration: Declaration, path: str) -> None:
    for name, data in declaration.data.items():
        _choose(f"{path}: data.{name}.role", data.role, DATA_ROLES)
    for name, metric in declaration.metrics.items():
        _choose(f"{path}: metrics.{name}.goal", metric.goal, ("max", "min"))
    _choose(f"{path}: monitoring.between_steps", declaration.monitoring.between_steps, ("forbidden", "allowed"))
    if not 0 < declaration.monitoring.overhead <= 1:
        raise DeclarationError(f"{path}: monitoring.overhead", got=declaration.monitoring.overhead, expected="above 0, at most 1")
    if not declaration.project.command.strip():
        raise DeclarationError(f"{path}: project.command is empty", expected="the command that trains, as you type it")


def _choose(where: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise DeclarationError(where, got=got, expected=" or ".join(allowed), next_step="correct the value")
