"""What a run's hyperparameters have to be: declared in `[training]`, else as in the last admitted run that passed, else a guess by name.

A value from an earlier run only binds where nothing explains another: a changed configuration key with the same name and
the same old value carries its new value over; changed code, command or environment make the earlier run a hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.apps.project import Project
from truerun.core.decision import Outcome
from truerun.core.errors import TruerunError
from truerun.core.lock import Lock
from truerun.core.run import Verdict
from truerun.ledger.history import History, RunHistory
from truerun.monitoring.hyperparameter_drift import FLAGS, NUMBERS, same
from truerun.monitoring.reference import Reference

PREFIX = "config:"
ALIASES = {"lr": ("lr", "learning_rate"), "weight_decay": ("weight_decay",), "momentum": ("momentum",), "eps": ("eps",)}
GUESSED = ("lr", "weight_decay")


def make_reference(project: Project, lock: Lock, history: History | None, against: str | None = None) -> Reference:
    """The reference for a run of *lock*; *against* names an earlier run instead of the newest that passed."""
    values, origins = _declared(project, lock)
    certain = set(values)
    earlier = _earlier_run(history, against)
    learned: Mapping[str, Any] = {}
    learned_from, same_program, same_lock = "", False, False
    if earlier is not None:
        assert earlier.finished is not None
        learned_from = f"run {earlier.id} (entry {earlier.finished.index})"
        learned = earlier.finished.fact.effective.get("learned", {})
        same_lock = earlier.started.fact.lock == lock.digest
        same_program = _adopt(project, lock, earlier, learned_from, values=values, origins=origins, certain=certain)
    for name in GUESSED:
        found = [(key, path) for key, path in _keys(lock) if key.rpartition(".")[2] in ALIASES[name]]
        if name not in values and len(found) == 1 and "groups" not in values:
            key, path = found[0]
            value = lock.config[path].keys[key].value
            if isinstance(value, int | float) and not isinstance(value, bool):
                values[name], origins[name] = value, f"{path} {key}"
    return Reference(
        values=values,
        origins=origins,
        certain=frozenset(certain),
        learned=learned,
        learned_from=learned_from,
        same_program=same_program,
        same_lock=same_lock,
    )


def _declared(project: Project, lock: Lock) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, literal in project.declaration.training.items():
        where = f"{project.declaration_name} [training] {name}"
        if not isinstance(literal, str) or not literal.startswith(PREFIX):
            values[name], origins[name] = literal, where
            continue
        key = literal.removeprefix(PREFIX)
        for path, config in lock.config.items():
            if key in config.keys:
                line = config.keys[key].line
                values[name] = config.keys[key].value
                origins[name] = f"{path}{f':{line}' if line else ''} {key} (declared in {where})"
                break
    return values, origins


def _earlier_run(history: History | None, against: str | None) -> RunHistory | None:
    if history is None:
        return None
    if against is not None:
        run = history.run(against)
        return run if run.finished is not None and run.finished.fact.effective else None
    passed = [
        run
        for run in history.runs.values()
        if run.finished is not None
        and run.finished.fact.verdict is Verdict.PASS
        and run.finished.fact.effective
        and run.started.fact.decision is not None
        and run.started.fact.decision.outcome is Outcome.ALLOW
    ]
    return max(passed, key=lambda run: run.last_index, default=None)


def _adopt(
    project: Project,
    lock: Lock,
    earlier: RunHistory,
    origin: str,
    *,
    values: dict[str, Any],
    origins: dict[str, str],
    certain: set[str],
) -> bool:
    """Take over what the *earlier* run had; whether code, command and environment are the same as then."""
    assert earlier.finished is not None
    effective = earlier.finished.fact.effective
    digest = earlier.started.fact.lock
    old = _stored(project, digest) if digest is not None else None
    same_lock = digest == lock.digest
    explained = not same_lock and (old is None or _reprogrammed(old, lock))
    if same_lock and "groups" in effective and not certain & set(NUMBERS):
        values["groups"], origins["groups"] = effective["groups"], origin
        certain.add("groups")
    for name in (*NUMBERS, *FLAGS, "optimizer", "lr_changed_by"):
        if name in values or name not in effective or ("groups" in effective and name in NUMBERS):
            continue
        value, moved = (effective[name], False) if same_lock or old is None else _carried(name, effective[name], old, lock)
        if moved and value is None:
            continue
        values[name], origins[name] = value, origin
        if not explained:
            certain.add(name)
    return not explained


def _stored(project: Project, digest: Any) -> Lock | None:
    try:
        return project.lock(digest)
    except TruerunError:  # not kept here: then nothing can be explained by it
        return None


def _reprogrammed(old: Lock, new: Lock) -> bool:
    """Whether something other than configuration and data changed that may set hyperparameters."""
    return (
        {path: file.digest for path, file in old.code.items()} != {path: file.digest for path, file in new.code.items()}
        or old.command != new.command
        or old.environment != new.environment
    )


def _carried(name: str, value: Any, old: Lock, new: Lock) -> tuple[Any, bool]:
    """The expected value where a configuration key of that name changed: (new value or None for cannot know, whether it changed)."""
    before, after = dict(_values(old)), dict(_values(new))
    for key, was in before.items():
        if key.rpartition(".")[2] not in ALIASES.get(name, (name,)) or key not in after or after[key] == was:
            continue
        return (after[key], True) if same(was, value) else (None, True)
    return value, False


def _keys(lock: Lock) -> list[tuple[str, str]]:
    return [(key, path) for path, config in lock.config.items() for key in config.keys]


def _values(lock: Lock) -> Mapping[str, Any]:
    return {key: lock.config[path].keys[key].value for key, path in _keys(lock)}
