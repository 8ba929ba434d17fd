"""One run from admission to verdict: what `truerun run` does, without a word printed.

Order: resolve, inspect, decide, record the start, look again right before the command starts, watch it, look again at the
inputs, check the outputs, record the end. In `enforce` mode what is not approved or not as it should be never starts; in
`observe` mode a fault of Truerun never keeps the command from running: it becomes a finding.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from truerun.apps.agent import Batch, WatchOutcome, WatchRequest, watch
from truerun.apps.attending import Attached, attend
from truerun.apps.baseline import make_reference
from truerun.apps.project import Project
from truerun.apps.recording import Recorder
from truerun.apps.watched_run import DeclaredData
from truerun.core.codec import to_json
from truerun.core.decision import Decision, Outcome
from truerun.core.digest import Digest, digest_bytes
from truerun.core.errors import TruerunError, UsageError
from truerun.core.fact import RunFinished, RunObserved, RunStarted
from truerun.core.finding import Finding, Severity
from truerun.core.lock import Lock
from truerun.core.run import Mode, Overhead, RunResult, Verdict
from truerun.ledger.history import History
from truerun.monitoring.inputs_changed import check_unchanged
from truerun.monitoring.record_not_kept import check_kept
from truerun.monitoring.reference import Reference

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_RECORDED_FINDINGS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """
    A run to make. `mode` None means enforce on a critical project and observe elsewhere; `against` names the earlier run
    that hyperparameters and outputs are compared with; `cwd` is where the command starts. With `attached` the command
    runs already and is only watched; `interactive` says that it is a console whose command line tells nothing.
    """

    command: tuple[str, ...]
    cwd: Path
    mode: Mode | None = None
    run: str | None = None
    against: str | None = None
    key: str | None = None
    on_finding: Callable[[Finding], None] | None = None
    attached: Attached | None = None
    interactive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run's result, the decision that admitted or held it, and what the agent saw (None for a run that never started)."""

    result: RunResult
    decision: Decision | None
    outcome: WatchOutcome | None
    folder: Path


def run(project: Project, request: RunRequest) -> RunReport:
    """
    Make the run.

    Raises CommandNotFoundError for a command that does not exist, UsageError for a run id that is taken; in enforce mode
    whatever keeps the inputs, the ledger or the key from being read.
    """
    from truerun.apps.agent import find_program

    if request.attached is None:
        find_program(request.command, request.cwd)
    return _Running(project, request).make()


def make_run_id(wanted: str | None, now: str) -> str:
    """*wanted*, or the date of *now* (RFC 3339) and a random part; raises UsageError for what is not a run id."""
    run = wanted or f"{now[:10]}-{secrets.token_hex(3)}"
    if not RUN_ID.fullmatch(run):
        raise UsageError("not a run id", got=run[:80], expected="letters, digits, dot, dash, underscore; at most 64")
    return run


class _Running:
    """One run on its way; each stage leaves what the next needs."""

    def __init__(self, project: Project, request: RunRequest) -> None:
        self.project = project
        self.request = request
        critical = project.declaration.project.critical
        self.mode = request.mode or (Mode.ENFORCE if critical else Mode.OBSERVE)
        self.run = make_run_id(request.run, project.clock())
        self.folder = project.folder / "runs" / self.run
        self.findings: list[Finding] = []
        self.recorded = 0  # how many of them the entry of the start holds
        self.lock: Lock | None = None
        self.decision: Decision | None = None
        self.history: History | None = None
        self.started = False
        self.recorded = 0
        self.last_batch: Batch | None = None

    def make(self) -> RunReport:
        """Every stage in order."""
        self._read_history()
        self.recorder = Recorder(self.project, self.mode, self.folder, self.request.key)
        self._admit()
        self._notice(check_kept("nobody vouches for it", self.recorder.unsigned, "give a key with --key, or make one"))
        # A decision that does not allow is only made for what is critical, or was when it was last approved: leaving
        # `critical` out of the declaration changes nothing until that is approved.
        if self.request.mode is None and self.decision is not None and self.decision.outcome is not Outcome.ALLOW:
            self.mode = Mode.ENFORCE
        refused = self.mode is Mode.ENFORCE and (self._is_held() or self._worst() >= Severity.ERROR.rank)
        if not refused and self.request.attached is None:
            self._look_again("before it started")
            refused = self.mode is Mode.ENFORCE and self._worst() >= Severity.ERROR.rank
        self._record_start()
        self.recorded = len(self.findings)
        self.started, self.recorder.strict = True, False
        if refused:
            verdict = Verdict.HELD if self._is_held() else Verdict.FAIL
            return self._finish(None, verdict)
        self._notice(check_kept("its ledger could not be written", self.recorder.trouble))
        before = self._outputs_now()
        outcome = self._watch()
        self._look_again("while it ran")
        outputs = self._check_outputs(before)
        return self._finish(outcome, self._verdict(outcome), outputs)

    # Stages.

    def _attempt(self, what: str, act: Callable[[], Any]) -> Any:
        """*act*; its failure becomes a finding and None, except in enforce mode before the command has started."""
        try:
            return act()
        except (TruerunError, OSError) as error:
            if self.mode is Mode.ENFORCE and not self.started:
                raise
            trouble = error.message if isinstance(error, TruerunError) else str(error)
            remedy = error.next_step if isinstance(error, TruerunError) else None
            self._notice(check_kept(what, trouble, remedy))
            return None

    def _read_history(self) -> None:
        self.history = self._attempt("its ledger could not be read", self.project.history)
        if self.history is not None and self.run in self.history.runs:
            raise UsageError(f"there is a run {self.run} already", next_step="give another --run-id, or none")

    def _admit(self) -> None:
        from truerun.apps.locking import resolve, store

        resolved = self._attempt("its inputs could not be locked", lambda: resolve(self.project))
        if resolved is None:
            return
        self.resolved = resolved
        self.lock = resolved.lock
        self._attempt("its inputs could not be stored", lambda: store(self.project, resolved))
        if self.history is None:
            return
        self.decision = self._attempt("its approval could not be judged", self._decide)
        self._notice(self._attempt("its inputs could not be inspected", self._inspect) or ())

    def _decide(self) -> Decision:
        from truerun.apps.locking import decide

        assert self.resolved is not None
        return decide(self.project, self.resolved)

    def _inspect(self) -> tuple[Finding, ...]:
        from truerun.apps.inspecting import inspect_for_run
        from truerun.inspection.config.command_drift import split_command

        command = split_command(self.resolved.lock.command) if self.request.interactive else self.request.command
        return inspect_for_run(self.project, self.resolved, command)

    def _look_again(self, when: str) -> None:
        """Resolve once more and compare with what was admitted: a swap in between is refused, or reported."""
        from truerun.apps.locking import compare, resolve

        if self.lock is None:
            return
        now = self._attempt(f"its inputs could not be looked at again {when}", lambda: resolve(self.project))
        if now is None or now.lock.digest == self.lock.digest:
            return
        self._notice(check_unchanged(compare(self.project, self.lock, now).changes, when))

    def _record_start(self) -> None:
        fact = RunStarted(
            run=self.run,
            lock=self.lock.digest if self.lock is not None else None,
            mode=self.mode,
            command=self.request.command,
            run_key=self.recorder.run_key.public_key,
            decision=self.decision,
            findings=tuple(self.findings[:MAX_RECORDED_FINDINGS]),
            at=self.project.clock(),
        )
        self.recorded = len(fact.findings)
        self.recorder.record(fact, self.recorder.author)

    def _watch(self) -> WatchOutcome:
        reference = Reference()
        if self.lock is not None:
            lock = self.lock
            found = self._attempt(
                "its reference could not be read",
                lambda: make_reference(self.project, lock, self.history, self.request.against),
            )
            reference = found if found is not None else reference
        self._attempt("its start could not be kept", self._keep_start)
        request = WatchRequest(
            command=self.request.command,
            cwd=self.request.cwd,
            folder=self.folder,
            monitoring=self.project.declaration.monitoring,
            reference=reference,
            data=_declared_data(self.project, self.lock),
            outlives=self.mode is Mode.OBSERVE,
            on_finding=self._found,
            on_batch=self._record_batch,
        )
        return watch(request) if self.request.attached is None else attend(request, self.request.attached)

    def _found(self, finding: Finding) -> None:
        self.findings.append(finding)
        if self.request.on_finding is not None:
            self.request.on_finding(finding)

    def _record_batch(self, batch: Batch) -> None:
        self.last_batch = batch
        self.recorded = max(self.recorded, len(self.findings))
        fact = RunObserved(
            run=self.run,
            rank=batch.rank,
            first_step=batch.first_step,
            last_step=batch.last_step,
            records=batch.records,
            records_size=batch.records_size,
            findings=batch.findings[:MAX_RECORDED_FINDINGS],
            at=self.project.clock(),
        )
        self._attempt("an observation could not be recorded", lambda: self.recorder.record(fact))

    def _check_outputs(self, before: os.stat_result | None) -> Digest | None:
        """Keep the predictions that this run wrote, in its folder, and judge them; None where it wrote none."""
        kept = self._attempt("its outputs could not be kept", lambda: self._keep_outputs(before))
        if kept is not None:
            self._notice(self._attempt("its outputs could not be checked", self._judge_outputs) or ())
        return kept if isinstance(kept, Digest) else None

    def _outputs_now(self) -> os.stat_result | None:
        section = self.project.declaration.outputs
        path = self.project.root / section.predictions if section is not None else None
        return path.stat() if path is not None and path.is_file() else None

    def _keep_outputs(self, before: os.stat_result | None) -> Digest | None:
        from truerun.adapters.files import hash_file
        from truerun.apps.judging_outputs import kept_outputs

        section, now = self.project.declaration.outputs, self._outputs_now()
        target = kept_outputs(self.project, self.run)
        if section is None or target is None or now is None:
            return None
        if before is not None and (before.st_mtime_ns, before.st_ino, before.st_size) == (
            now.st_mtime_ns,
            now.st_ino,
            now.st_size,
        ):
            return None  # an earlier run's predictions, not this one's
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.project.root / section.predictions, target)
        return hash_file(target)

    def _judge_outputs(self) -> tuple[Finding, ...]:
        from truerun.apps.judging_outputs import judge_outputs

        return judge_outputs(self.project, self.run, self.history, self.request.against)

    def _record_rest(self) -> None:
        """Enter the findings that were made after the last batch: changed inputs, outputs."""
        rest = tuple(self.findings[self.recorded :])
        if not rest:
            return
        nothing = Batch(rank=0, first_step=0, last_step=0, records=digest_bytes(b""), records_size=0, findings=())
        self._record_batch(replace(self.last_batch or nothing, findings=rest))

    def _finish(self, outcome: WatchOutcome | None, verdict: Verdict, outputs: Digest | None = None) -> RunReport:
        self._record_rest()
        fact = RunFinished(
            run=self.run,
            verdict=verdict,
            command_exit=outcome.exit_code if outcome is not None else None,
            steps=outcome.steps if outcome is not None else 0,
            seconds=outcome.seconds if outcome is not None else 0.0,
            metrics=_finite(outcome.metrics) if outcome is not None else {},
            overhead=outcome.overhead if outcome is not None else Overhead(),
            at=self.project.clock(),
            effective=to_json(outcome.effective) if outcome is not None else {},
            outputs=outputs,
            findings=self._late(outcome),
        )
        self._attempt("its end could not be recorded", lambda: self.recorder.record(fact))
        self.recorder.settle()
        self._notice(check_kept("its ledger could not be written", self.recorder.trouble))
        if outcome is not None:
            self._notice(check_kept("the files of the run could not be written", outcome.trouble))
        result = RunResult(
            run=self.run,
            lock=self.lock.digest if self.lock is not None else None,
            verdict=verdict,
            mode=self.mode,
            findings=tuple(self.findings),
            steps=fact.steps,
            metrics=fact.metrics,
            command_exit=fact.command_exit,
            overhead=fact.overhead,
            ledger=self.recorder.span(),
        )
        self._attempt("its result could not be kept", lambda: self._keep_result(result))
        return RunReport(result=result, decision=self.decision, outcome=outcome, folder=self.folder)

    def _late(self, outcome: WatchOutcome | None) -> tuple[Finding, ...]:
        """What no entry holds yet: noticed after the start, and not by the agent, whose findings are in its batches."""
        batched = {finding.fingerprint for finding in outcome.findings} if outcome is not None else set()
        late = [finding for finding in self.findings[self.recorded :] if finding.fingerprint not in batched]
        return tuple(late[:MAX_RECORDED_FINDINGS])

    def _keep_start(self) -> None:
        """`start.json`: what `truerun watch` shows before anything has happened, and where the agent is."""
        start = {
            "schema": 1,
            "run": self.run,
            "project": self.project.declaration.project.name,
            "command": list(self.request.command),
            "mode": self.mode.value,
            "at": self.project.clock(),
            "agent": {"host": os.uname().nodename, "pid": os.getpid()},
            "findings": to_json(tuple(self.findings)),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(start, indent=1, ensure_ascii=False, default=str)
        (self.folder / "start.json").write_text(text + "\n", encoding="utf-8")

    def _keep_result(self, result: RunResult) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(result), indent=1, ensure_ascii=False, default=str)
        (self.folder / "result.json").write_text(text + "\n", encoding="utf-8")

    # Judgement.

    def _notice(self, findings: tuple[Finding, ...]) -> None:
        known = {finding.fingerprint for finding in self.findings}
        for finding in findings:
            if finding.fingerprint not in known:
                known.add(finding.fingerprint)
                self._found(finding)

    def _worst(self) -> int:
        return max((finding.severity.rank for finding in self.findings), default=-1)

    def _is_held(self) -> bool:
        return self.decision is None or self.decision.outcome is not Outcome.ALLOW

    def _verdict(self, outcome: WatchOutcome) -> Verdict:
        """Fail on findings or a failed command; "could not tell" where torch trained and too little of it could be checked."""
        if outcome.exit_code or self._worst() >= Severity.ERROR.rank:
            return Verdict.FAIL
        unchecked = outcome.steps > 0 and not outcome.sampling.get("samples")
        blind = self.lock is None or self.history is None
        return Verdict.COULD_NOT_TELL if unchecked or blind else Verdict.PASS


def _declared_data(project: Project, lock: Lock | None) -> tuple[DeclaredData, ...]:
    return tuple(
        DeclaredData(name=name, files=tuple(project.root / file.path for file in data.files), rows=data.rows, label=data.label)
        for name, data in (lock.data.items() if lock is not None else ())
    )


def _finite(metrics: Any) -> dict[str, float]:
    """Metrics that JSON can hold; one that is not finite has a finding of its own."""
    return {name: value for name, value in metrics.items() if value == value and abs(value) != float("inf")}  # noqa: PLR0124
