"""A made-up incident to build reports from: a team of four, two harmful changes, a recovery. No person in it is real."""

import pytest

from truerun.core.actor import Actor, Basis, Person, Role
from truerun.core.attribution import Attribution, AttributionVerdict, SourceSuspect, Suspect
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.decision import Answer
from truerun.core.declaration import ConfigSection, DataSection, Declaration, MetricSection, OutputsSection, ProjectSection
from truerun.core.digest import digest_bytes
from truerun.core.fact import LockDecided, LockProposed, RecoveryApplied, RunFinished, RunStarted, TraceFinished
from truerun.core.finding import Confidence, Finding, Severity, Subject
from truerun.core.incident import Anchor, Curve
from truerun.core.run import MetricPoint, Mode, Overhead, Verdict
from truerun.ledger.history import History, Recorded, RunHistory
from truerun.oversight.people import People, Standing
from truerun.response.evidence import Evidence
from truerun.response.outcomes import measure_outcomes

LOCKS = {name: digest_bytes(name.encode()) for name in ("base", "tuned", "slip", "bad", "clean")}
TEAM = (("ada", Role.OWNER, None), ("bo", Role.MAINTAINER, None), ("cy", Role.ENGINEER, None), ("dee", Role.TRAINEE, "bo"))


def key(who):
    return f"ssh-ed25519 {who}"


def change(kind, action, name, part, *, before, after, who):
    return Change(
        kind=kind,
        action=action,
        name=name,
        key=part,
        before=before,
        after=after,
        actor=Actor(id=who, basis=Basis.SIGNED),
        path=name,
    )


TUNED = change(ChangeKind.CONFIG, Action.MODIFIED, "config.yaml", "model.hidden", before=96, after=100, who="cy")
SLIP = change(ChangeKind.CONFIG, Action.MODIFIED, "config.yaml", "optimizer.lr", before=0.003, after=0.3, who="dee")
ROWS = change(
    ChangeKind.DATA,
    Action.ROWS_ADDED,
    "train",
    "dee",
    before=None,
    after={"count": 520, "rows": "blake3:" + "0" * 64},
    who="dee",
)


class Story:
    """Builds evidence step by step; a test changes what it is about."""

    def __init__(self):
        self.declaration = Declaration(
            project=ProjectSection(name="digits", command="python train.py"),
            data={"train": DataSection(path="train.parquet", label="label", contributor="added_by")},
            config=ConfigSection(files=("config.yaml",)),
            metrics={"val_accuracy": MetricSection(tolerance=0.03)},
            outputs=OutputsSection(predictions="predictions.parquet"),
        )
        self.mode = Mode.OBSERVE
        self.decisions = ()
        self.findings = ()
        self.slip, self.rows, self.note = SLIP, ROWS, "learn faster"
        self.recover = True
        self.verdict = AttributionVerdict.ATTRIBUTED
        self.accuracy = 0.741

    def decide(self, index, lock, answer, who, reason=""):
        fact = LockDecided(
            lock=LOCKS[lock], answer=answer, reason=reason, origin="truerun/digits", proposal=index - 1, at="2026-10-14T10:00:00Z"
        )
        self.decisions += (Recorded(index=index, key=key(who), fact=fact),)

    def find(self, rule, severity, subject_key, *, kind="config", name="config.yaml", actor="dee"):
        finding = Finding(
            rule=rule,
            severity=severity,
            confidence=Confidence.HIGH,
            subject=Subject(kind=kind, name=name, key=subject_key),
            message=f"{rule} saw something",
            actor=Actor(id=actor, basis=Basis.CONTRIBUTOR),
        )
        self.findings += (finding,)

    def evidence(self):
        return Evidence(
            declaration=self.declaration,
            history=self.history(),
            people=self.people(),
            run=self.history().runs["r-bad"],
            reference=self.history().runs["r-base"],
            attribution=self.attribution(),
            findings=self.findings,
            curves=(self.curve(),),
            outcomes=measure_outcomes(*self.outputs()),
            checkpoints={"r-bad": ("out/model.pt",)},
            anchor=Anchor(origin="truerun/digits/5f3a", size=60, root="CsUYapGGPo4dkMgI=", log_key="truerun/digits+0a1b+AAAA"),
        )

    def people(self):
        return People(
            standings=tuple(
                Standing(
                    person=Person(id=who, name=f"{who.title()} Made-Up", role=role, keys=(key(who),), mentor=mentor), since=i
                )
                for i, (who, role, mentor) in enumerate(TEAM, start=1)
            )
        )

    def attribution(self):
        suspects = (
            Suspect(
                change=self.slip,
                probability=0.9987,
                lock_entry=14,
                effect=0.12,
                evidence=({"text": "alone on the reference: val_accuracy 0.82, 0.12 worse"},),
            ),
            Suspect(change=self.rows, probability=0.98, lock_entry=16, effect=0.1, evidence=({"rerun": "alone", "value": 0.84},)),
            Suspect(change=TUNED, probability=0.004, lock_entry=12),
        )
        return Attribution(
            verdict=self.verdict,
            run="r-bad",
            against="r-base",
            metric={"name": "val_accuracy"},
            onset={"entry": 14, "step": 1},
            suspects=suspects if self.verdict is not AttributionVerdict.NO_DEGRADATION else (),
            sources=(SourceSuspect(data="train", contributor="dee", rows=520, rows_suspect=381),),
            runs_used=9,
            notes=("Reruns are deterministic: two reruns of the reference agree to the last bit.",),
        )

    def history(self):
        proposals = [
            self._proposed(10, "base", None, (), who="ada", note=""),
            self._proposed(12, "tuned", "base", (TUNED,), who="cy", note="a little wider"),
            self._proposed(14, "slip", "tuned", (self.slip,), who="dee", note=self.note),
            self._proposed(16, "bad", "slip", (self.rows,), who="dee", note="more scans"),
        ]
        runs = {"r-base": self._run(11, "r-base", "base", 0.938), "r-bad": self._run(18, "r-bad", "bad", self.accuracy)}
        recoveries = ()
        if self.recover:
            proposals.append(self._proposed(24, "clean", "bad", (), who="ada", note="recovery"))
            fact = RecoveryApplied(run="r-bad", lock=LOCKS["clean"], removed=(self.slip, self.rows), at="2026-10-14T15:00:00Z")
            recoveries = (Recorded(index=25, key=key("ada"), fact=fact),)
            runs["r-clean"] = self._run(26, "r-clean", "clean", 0.941)
        trace = TraceFinished(attribution=self.attribution(), seconds=42.0, at="2026-10-14T14:00:00Z")
        return History(
            proposals={record.fact.lock: (record,) for record in proposals},
            decisions=self.decisions,
            runs=runs,
            traces=(Recorded(index=22, key=key("ada"), fact=trace),),
            recoveries=recoveries,
        )

    def outputs(self):
        run, reference = [], []
        for digit in range(10):
            for example in range(60):
                run.append((str(digit), str(digit) if digit not in (4, 9) or example % 4 == 0 else str(13 - digit)))
                reference.append((str(digit), str(digit) if example % 17 else "0"))
        return run, reference

    def curve(self):
        points = [MetricPoint(name="val_accuracy", step=step, value=0.741 - 0.4 / step) for step in range(1, 40)]
        before = [MetricPoint(name="val_accuracy", step=step, value=0.938 - 0.6 / step) for step in range(1, 40)]
        return Curve(
            name="val_accuracy", goal="max", run=tuple(points), reference=tuple(before), tolerance=0.03, declared=True, onset=7
        )

    def _proposed(self, index, lock, parent, changes, *, who, note):
        fact = LockProposed(
            lock=LOCKS[lock],
            changes=changes,
            at=f"2026-10-{index:02d}T09:30:00Z",
            parent=LOCKS[parent] if parent else None,
            note=note,
        )
        return Recorded(index=index, key=key(who), fact=fact)

    def _run(self, index, name, lock, accuracy):
        started = RunStarted(
            run=name,
            lock=LOCKS[lock],
            mode=self.mode,
            command=("python", "train.py"),
            run_key=key(name),
            decision=None,
            findings=(),
            at="2026-10-14T12:00:00Z",
        )
        finished = RunFinished(
            run=name,
            verdict=Verdict.PASS,
            command_exit=0,
            steps=1200,
            seconds=90.0,
            metrics={"val_accuracy": accuracy},
            overhead=Overhead(),
            at="2026-10-14T12:10:00Z",
        )
        return RunHistory(
            started=Recorded(index=index, key=key("dee" if name == "r-bad" else "ada"), fact=started),
            finished=Recorded(index=index + 2, key=key(name), fact=finished),
        )


@pytest.fixture
def story():
    """The made-up incident, to be changed by a test."""
    return Story()


@pytest.fixture
def approve():
    """The answer yes."""
    return Answer.APPROVE


@pytest.fixture
def error():
    """Severity error."""
    return Severity.ERROR
