"""Drafting `truerun.toml` from what lies in a folder: guesses for a person to correct, each read from the files, none executed.

Reads names, headers and syntax trees only; what it cannot find it leaves out. `truerun init` shows the draft.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from truerun.adapters.config_files import MAX_CONFIG_BYTES, parse_config
from truerun.adapters.files import find_files, read_bounded
from truerun.adapters.packages import parse_python
from truerun.core.errors import TruerunError

MAX_SCRIPTS = 500
MAX_SCRIPT_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
MAX_METRICS = 4
_TABLES = ("**/*.parquet", "**/*.csv", "**/*.tsv", "**/*.jsonl", "**/*.ndjson")
_CONFIGS = ("*.yaml", "*.yml", "*.json", "*.toml", "conf*/**/*.yaml", "conf*/**/*.yml", "conf*/**/*.json", "conf*/**/*.toml")
_NOT_CONFIGS = re.compile(
    r"truerun\.toml|pyproject\.toml|package(-lock)?\.json|tsconfig.*\.json|mkdocs\.ya?ml|\..*|docker-compose.*|uv\.toml|environment\.ya?ml"
)
_EVALUATION = re.compile(r"(^|[._-])(holdout|test|val|valid|validation|eval|evaluation|dev)([._-]|$)", re.IGNORECASE)
_WRITTEN = re.compile(r"predict|output|result|metric|(^|/)(runs|logs|outputs|results|demo|wandb|mlruns)/", re.IGNORECASE)
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?$")
_LABELS = ("label", "labels", "target", "class", "y", "outcome", "category")
_CONTRIBUTORS = (
    "contributor",
    "added_by",
    "annotator",
    "annotated_by",
    "labeler",
    "labeller",
    "labeled_by",
    "author",
    "created_by",
)
_IDS = ("id", "row_id", "example_id", "sample_id", "uuid", "uid")
_MINIMISED = re.compile(r"loss|error|perplexity|ppl|mae|mse|rmse|nll|wer|cer", re.IGNORECASE)
_JUDGED = re.compile(r"val|test|eval|holdout|acc|auc|f1|bleu|score", re.IGNORECASE)
_OPTIMIZERS = frozenset({"SGD", "Adam", "AdamW"})
_HYPERPARAMETERS = {
    "lr": ("lr", "learning_rate"),
    "weight_decay": ("weight_decay",),
    "momentum": ("momentum",),
    "seed": ("seed",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft: the text of a `truerun.toml`, and what the reader should look at first."""

    text: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Script:
    path: str
    optimizers: frozenset[str]
    metrics: tuple[str, ...]
    options: frozenset[str]
    entry: bool


def draft_declaration(root: Path) -> Draft:
    """The draft for the project in *root*; raises InputError when the folder cannot be read."""
    remarks: list[str] = []
    scripts = list(_scripts(root))
    configs = _configs(root)
    command = _command(root, scripts, list(configs))
    if command is None:
        command = "python train.py"
        remarks.append("no training script was found; correct project.command")
    parts = [_section("project", {"name": root.name or "project", "command": command, "critical": False})]
    tables = _tables(root)
    if not tables:
        remarks.append("no parquet, csv or jsonl file was found; declare the data sets")
    parts += [_section(f"data.{_key(name)}", fields) for name, fields in tables.items()]
    if configs:
        parts.append(_section("config", {"files": list(configs), "protected": ["*"]}))
    parts += [_section("code", {"files": ["**/*.py"]}), _section("environment", {"packages": "all"})]
    if (root / "checkpoints").is_dir():
        parts.append(_section("checkpoints", {"output": "checkpoints/"}))
    training = _training(scripts, configs)
    if training:
        parts.append(_section("training", training))
    metrics = _metrics(scripts)
    if not metrics:
        remarks.append(
            "no metric was found: call truerun.log(name=value) in the script and declare [metrics.NAME], or trace cannot judge"
        )
    for name in metrics:
        goal = "min" if _MINIMISED.search(name) else "max"
        parts.append(_section(f"metrics.{_key(name)}", {"goal": goal, "tolerance": 0.01}))
    return Draft(text="\n".join(parts), remarks=tuple(remarks))


def _section(name: str, fields: dict[str, object]) -> str:
    # The values are text, numbers, booleans and lists of text: JSON writes them as TOML does.
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value is not None)
    return "\n".join((f"[{name}]", *lines)) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _scripts(root: Path) -> Iterator[_Script]:
    paths, _ = find_files(root, ["**/*.py"])
    own = [path for path in paths if not re.search(r"(^|/)(tests?|docs|examples)/|(^|/)(test_|conftest|setup\.py)", path)]
    for path in sorted(own, key=lambda path: (path.count("/"), path))[:MAX_SCRIPTS]:
        try:
            tree = parse_python(read_bounded(root / path, MAX_SCRIPT_BYTES))
        except TruerunError:
            # A draft leaves out what cannot be read; `truerun lock` will say what is wrong with it.
            continue
        if tree is not None:
            yield _read_script(path, tree)


def _read_script(path: str, tree: ast.Module) -> _Script:
    optimizers: set[str] = set()
    metrics: list[str] = []
    options: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner, name = _called(node.func)
        first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if name in _OPTIMIZERS:
            optimizers.add(name)
        elif name == "log" and owner == "truerun":
            metrics += [keyword.arg for keyword in node.keywords if keyword.arg and keyword.arg != "step"]
        elif name == "add_scalar" and isinstance(first, str):
            metrics.append(first)
        elif name == "add_argument" and isinstance(first, str) and not _has_default(node):
            options.add(first)
    entry = any(isinstance(node, ast.If) and "__name__" in ast.dump(node.test) for node in tree.body)
    return _Script(path=path, optimizers=frozenset(optimizers), metrics=tuple(metrics), options=frozenset(options), entry=entry)


def _has_default(call: ast.Call) -> bool:
    return any(keyword.arg == "default" for keyword in call.keywords)


def _called(function: ast.expr) -> tuple[str | None, str | None]:
    if isinstance(function, ast.Attribute):
        return (function.value.id if isinstance(function.value, ast.Name) else None), function.attr
    return None, function.id if isinstance(function, ast.Name) else None


def _command(root: Path, scripts: Sequence[_Script], configs: Sequence[str]) -> str | None:
    shells, _ = find_files(root, ["*.sh", "scripts/*.sh"])
    for path in shells:
        if re.search(r"(^|/)(run_?)?train.*\.sh$", path) and b"python" in read_bounded(root / path, MAX_SCRIPT_BYTES):
            return f"bash {path}"

    def rank(script: _Script) -> tuple[int, int, str]:
        stem = PurePosixPath(script.path).stem
        order = (
            0 if stem == "train" else 1 if stem.startswith("train") else 2 if stem == "main" else 3 if script.optimizers else 9
        )
        return order, script.path.count("/"), script.path

    best = min(scripts, key=rank, default=None)
    if best is None or rank(best)[0] == 9:
        return None
    argument = f" --config {configs[0]}" if configs and "--config" in best.options else ""
    return f"python {best.path}{argument}"


def _tables(root: Path) -> dict[str, dict[str, object]]:
    paths, _ = find_files(root, list(_TABLES))
    groups: dict[tuple[str, str, str], list[str]] = {}
    for path in paths:
        pure = PurePosixPath(path)
        if not _WRITTEN.search(path):
            groups.setdefault((str(pure.parent), _SHARD.sub("", pure.stem), pure.suffix), []).append(path)
    tables: dict[str, dict[str, object]] = {}
    for (folder, stem, suffix), files in sorted(groups.items()):
        path = files[0] if len(files) == 1 else str(PurePosixPath(folder) / f"{stem}*{suffix}")
        name = stem or PurePosixPath(folder).name or "data"
        while name in tables:
            name += "-" + suffix[1:]
        columns = _columns(root / files[0])
        role = "evaluation" if _EVALUATION.search(stem or folder) else None
        tables[name] = {
            "path": path,
            "label": _first(_LABELS, columns),
            "contributor": _first(_CONTRIBUTORS, columns),
            "id": _first(_IDS, columns),
            "role": role,
        }
    return tables


def _columns(path: Path) -> list[str]:
    try:
        if path.suffix == ".parquet":
            import polars as pl

            return list(pl.scan_parquet(path, glob=False).collect_schema().names())
        with path.open("r", encoding="utf-8", newline="") as stream:
            head = stream.read(MAX_HEADER_BYTES).splitlines()[:1]
        if path.suffix in (".csv", ".tsv"):
            return next(csv.reader(head, delimiter="\t" if path.suffix == ".tsv" else ","), [])
        first = json.loads(head[0]) if head else {}
        return list(first) if isinstance(first, dict) else []
    except (OSError, ValueError, csv.Error, ImportError, RecursionError):
        # Without its header a table is declared without columns; the person reading the draft adds them.
        return []
    except Exception as error:
        if type(error).__module__.startswith("polars"):
            return []
        raise


def _first(wanted: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _configs(root: Path) -> dict[str, tuple[str, ...]]:
    found, _ = find_files(root, list(_CONFIGS))
    configs = {}
    for path in found:
        if not _NOT_CONFIGS.fullmatch(PurePosixPath(path).name) and not _WRITTEN.search(path):
            try:
                configs[path] = tuple(parse_config(read_bounded(root / path, MAX_CONFIG_BYTES), path))
            except TruerunError:
                # Not a configuration that can be locked by key (a JSON table, a template): not proposed.
                continue
    return {path: keys for path, keys in configs.items() if keys}


def _training(scripts: Sequence[_Script], configs: dict[str, tuple[str, ...]]) -> dict[str, object]:
    keys = [key for names in configs.values() for key in names]
    training: dict[str, object] = {}
    optimizers = {name for script in scripts for name in script.optimizers}
    if len(optimizers) == 1:
        training["optimizer"] = next(iter(optimizers))
    for parameter, names in _HYPERPARAMETERS.items():
        matches = [key for key in keys if key.rsplit(".", 1)[-1].lower() in names]
        if len(matches) == 1:
            training[parameter] = f"config:{matches[0]}"
    return training


def _metrics(scripts: Iterable[_Script]) -> list[str]:
    names = list(dict.fromkeys(name for script in scripts for name in script.metrics))
    judged = [name for name in names if _JUDGED.search(name)]
    return (judged or names)[:MAX_METRICS]
