"""The story, from the first lock to the report: makes a real project, lets its weeks pass, and plays the incident in it.

Everything printed is computed while it is told. What must come out of it is in `outcome.py`.
"""

from __future__ import annotations

import datetime as dt
import importlib.resources
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from truerun.apps.demo.history import Plan, Step
from truerun.apps.demo.outcome import Held, Outcome, Planted, Runs
from truerun.apps.demo.team import Member
from truerun.apps.demo.terminal import Answered, Terminal
from truerun.apps.project import Project, open_project
from truerun.core.errors import TruerunError, UsageError
from truerun.oversight.admission import decide_admission

COMMAND = ("python", "train.py", "--config", "config.yaml")
REFERENCE, DEGRADED, RECOVERED, HELD = "week0", "week5", "week5clean", "week6"
TOLERANCE = 0.03
_DECLARATION = """[project]
name = "digits"
command = "{command}"
critical = {critical}

[data.train]
path = "data/train.parquet"
label = "label"
contributor = "added_by"
id = "scan"

[data.holdout]
path = "data/holdout.parquet"
label = "label"
contributor = "added_by"
id = "scan"
role = "evaluation"

[config]
files = ["config.yaml"]

[code]
files = ["**/*.py"]

[checkpoints]
output = "out/"

[metrics.val_accuracy]
goal = "max"
tolerance = {tolerance}

[outputs]
predictions = "out/predictions.parquet"
label = "label"
prediction = "prediction"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a demo lives: the project, the keys and the report, all in one folder."""

    folder: Path

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self.folder / "project"

    @property
    def keys(self) -> Path:
        """Everybody's private keys. In a real team each lies with its owner."""
        return self.folder / "keys"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"


def prepare(place: Place) -> None:
    """Make the folder, or empty one that an earlier demo made; raises UsageError for any other that is not empty."""
    mark = place.folder / ".truerun-demo"
    if place.folder.exists() and any(place.folder.iterdir()) and not mark.exists():
        raise UsageError(
            f"{place.folder} is not empty and was not made by truerun demo", next_step="choose another: truerun demo --dir DIR"
        )
    shutil.rmtree(place.folder, ignore_errors=True)
    place.keys.mkdir(parents=True)
    mark.write_text("made by truerun demo, which may empty this folder\n", encoding="utf-8")
    source = importlib.resources.files("truerun.apps.demo") / "project"
    with importlib.resources.as_file(source) as folder:
        shutil.copytree(folder, place.project, ignore=shutil.ignore_patterns("__pycache__"))


class StoryEndedError(TruerunError):
    """A command that the story needs failed, so the story did not come out."""

    exit_code = 1


class Story:
    """One telling of *plan* in *place*."""

    def __init__(self, plan: Plan, place: Place, *, quiet: bool) -> None:
        self.plan, self.place = plan, place
        self.terminal = Terminal(place.project, place.keys, quiet=quiet)
        self.now = plan.start
        self._planted: list[Planted] = []
        self._legitimate: list[str] = []

    def tell(self) -> Outcome:
        """From the first lock to the held run."""
        begun = time.monotonic()
        self._begin()
        self._weeks()
        self._degrade()
        self._trace()
        self._recover()
        held = self._enforce()
        return self._outcome(held, time.monotonic() - begun)

    # The chapters

    def _begin(self) -> None:
        plan, team, terminal = self.plan, self.plan.team, self.terminal
        terminal.heading("1  A team and its project")
        terminal.say(
            "Nine made-up people train a classifier of handwritten digits. The data, the training and the keys are real."
        )
        for edit in plan.first_files:
            edit.apply(self.place.project)
        self._declare(critical=plan.critical)
        self._make_keys()
        self._truerun(team.owner, "init", "--yes", "--id", team.owner.id, "--name", team.owner.name)
        for member in team.members[1:]:
            mentor = ("--mentor", member.mentor) if member.mentor else ()
            public = ("--key-file", str(self.place.keys / f"{member.id}.pub"))
            role = ("--role", member.role.value)
            self._truerun(team.owner, "people", "add", member.id, "--name", member.name, *role, *mentor, *public, shown=False)
        groups: dict[str, tuple[Member, ...]] = {
            "owner": (team.owner,),
            "maintainers": team.maintainers,
            "engineers": team.engineers,
        }
        for title, members in groups.items():
            terminal.say(f"  {title:<13}{', '.join(member.name for member in members)}")
        terminal.say(f"  {'trainee':<13}{team.trainee.name}, mentored by {team.mentor.name}")
        self._truerun(team.owner, "lock", "--note", "the project as it begins", shown=False)
        self._truerun(team.maintainers[0], "approve", "--reason", "read it all", shown=False)
        terminal.say("\nThe first lock is approved. This is the run that later ones are compared with:")
        self._train(team.engineers[0], REFERENCE, "observe")

    def _weeks(self) -> None:
        terminal, steps = self.terminal, self.plan.steps
        terminal.heading("2  Five weeks of work")
        for turn, step in enumerate(steps):
            self.now = max(self.now, step.at)
            for edit in step.edits:
                edit.apply(self.place.project)
            self._truerun(step.author, "lock", "--note", step.note, shown=turn == 0)
            self._note_changes(step)
            if step.planted is None:
                approver = self.plan.team.approver(step.author, turn, mentor_away=bool(self._planted))
                self._truerun(approver, "approve", "--reason", "looks right", "--yes", shown=turn == 0)
        people = len({step.author.id for step in steps})
        count = len(self._legitimate)
        terminal.say(
            f"\n… and so on: {len(steps)} locks by {people} people, {count} legitimate changes in all, each signed and answered."
        )
        slip, lot, trainee = self.plan.slip, self.plan.bad_lot, self.plan.team.trainee
        terminal.say(f"Among them {trainee.id}, a trainee, set {slip.key} to {slip.value} (“{slip.note}”)")
        terminal.say(f"and added {len(lot.lot)} scans, {lot.lot.wrong} of them with a wrong label ({lot.kind}).")
        terminal.say(f"{self.plan.team.mentor.id}, the mentor, has answered neither; others have answered later locks.")

    def _degrade(self) -> None:
        self.terminal.heading("3  The weekly run gets worse")
        how = "In observe mode" if self.plan.critical else "The project is not critical and the run only observed:"
        self.terminal.say(f"{how} nothing is held, everything is recorded.")
        self._later(hours=14)
        self._train(self.plan.team.engineers[1], DEGRADED, "observe")
        self._truerun(self.plan.team.engineers[1], "show", DEGRADED)

    def _trace(self) -> None:
        self.terminal.heading("4  Which change did it?")
        self._later(hours=1)
        self._truerun(self.plan.team.maintainers[0], "trace", DEGRADED, "--against", REFERENCE)

    def _recover(self) -> None:
        team = self.plan.team
        self.terminal.heading("5  Back to known good")
        self._later(hours=1)
        self._truerun(team.owner, "recover", DEGRADED, "--apply")
        names = self._settle("the clean lock")
        self.terminal.say(f"\nThe clean lock is approved by {names}. Its run, and what happened, as one page to forward:")
        self._train(team.engineers[1], RECOVERED, "observe")
        self._truerun(team.owner, "report", DEGRADED, "--output", str(self.place.report))

    def _enforce(self) -> Held:
        team, terminal = self.plan.team, self.terminal
        terminal.heading("6  The same again, enforced")
        self._later(hours=20)
        if not self.plan.critical:
            terminal.say("The report names the gap and the setting that closes it: the project becomes critical.")
            self._declare(critical=True)
            self._truerun(team.owner, "lock", "--note", "close the gap: critical = true", shown=False)
            self._settle("as the report says")
        terminal.say(f"{team.trainee.id} proposes the same two changes once more.")
        for step in self.plan.steps:
            if step.planted is not None:
                for edit in step.edits:
                    edit.apply(self.place.project)
        self._later(hours=2)
        self._truerun(team.trainee, "lock", "--note", "once more", shown=False)
        first = self._train(team.trainee, HELD, "enforce")
        who = self._who_can_approve()
        self._later(hours=1)
        question = f"why {self.plan.slip.key} = {self.plan.slip.value}? and please look at the labels with me"
        self._truerun(team.mentor, "reject", "--reason", question, "--yes")
        second = self._train(team.trainee, f"{HELD}again", "enforce", shown=False)
        terminal.say(f"\n{team.trainee.id} tries once more, with the same findings and this end (exit code {second.exit_code}):")
        terminal.say(second.text[max(0, second.text.find("truerun: run")) :].rstrip())
        return self._held(first, second, who)

    # What the chapters do

    def _truerun(self, who: Member, *arguments: str, shown: bool = True) -> None:
        """A command that the story needs; raises StoryEndedError with what it printed when it fails."""
        self.now += dt.timedelta(minutes=3)
        answered = self.terminal.run(who, self.now, *arguments, shown=shown)
        if answered.exit_code not in (0, 1):  # 1: there are findings, or suspects
            raise StoryEndedError(
                f"truerun {' '.join(arguments)} ended with {answered.exit_code}",
                got=answered.text.strip() or "see above",
                next_step=f"the project is as it was left: {self.place.project}",
            )

    def _declare(self, *, critical: bool) -> None:
        text = _DECLARATION.format(command=" ".join(COMMAND), critical=str(critical).lower(), tolerance=TOLERANCE)
        (self.place.project / "truerun.toml").write_text(text, encoding="utf-8")

    def _make_keys(self) -> None:
        from truerun.adapters.keys import create_key

        for member in self.plan.team.members:
            create_key(self.place.keys / member.id, f"{member.id}, made up")

    def _train(self, who: Member, run: str, mode: str, *, shown: bool = True) -> Answered:
        self._later(minutes=30)
        result = ("--output", f"../{run}.json")
        return self.terminal.run(who, self.now, "run", "--mode", mode, "--run-id", run, *result, "--", *COMMAND, shown=shown)

    def _settle(self, reason: str) -> str:
        """Have the newest proposal approved by whom the policy names, one after the other; their ids."""
        members = {member.id: member for member in self.plan.team.members}
        asked: list[str] = []
        while who := [name for name in self._who_can_approve() if name not in asked]:
            # The mentor first: one answer of a mentor who may approve meets both needs.
            asked.append(self.plan.team.mentor.id if self.plan.team.mentor.id in who else who[0])
            self._truerun(members[asked[-1]], "approve", "--reason", reason, "--yes", shown=False)
        return " and ".join(asked) or "nobody"

    def _later(self, *, hours: int = 0, minutes: int = 0) -> None:
        self.now += dt.timedelta(hours=hours, minutes=minutes)

    def _note_changes(self, step: Step) -> None:
        """Remember which recorded changes this step made: they are what the trace must or must not name."""
        record = self._project().newest_proposal()
        assert record is not None
        for change in record.fact.changes:
            if step.planted is None:
                self._legitimate.append(change.id)
            else:
                self._planted.append(
                    Planted(change=change.id, title=change.title(), actor=step.author.id, kind=step.planted, entry=record.index)
                )

    def _who_can_approve(self) -> tuple[str, ...]:
        """Whom the policy names for the newest proposal."""
        project = self._project()
        lock = project.proposed_lock()
        assert lock is not None
        decision = decide_admission(lock, project.history(), project.people(), lock_of=project.lock)
        return tuple(sorted({who for need in decision.needs for who in need.who}))

    def _held(self, first: Answered, second: Answered, who: tuple[str, ...]) -> Held:
        """With what the held runs wrote: not one step was made."""
        results = [json.loads((self.place.folder / f"{run}.json").read_text(encoding="utf-8")) for run in (HELD, f"{HELD}again")]
        return Held(
            exit_code=first.exit_code,
            after_reject=second.exit_code,
            who=who,
            mentor=self.plan.team.mentor.id,
            steps=sum(result["steps"] for result in results),
        )

    def _project(self) -> Project:
        return open_project(str(self.place.project / "truerun.toml"))

    def _outcome(self, held: Held, seconds: float) -> Outcome:
        return Outcome.of(
            self._project().history(),
            seed=self.plan.seed,
            runs=Runs(reference=REFERENCE, degraded=DEGRADED, recovered=RECOVERED),
            tolerance=TOLERANCE,
            planted=tuple(self._planted),
            legitimate=tuple(self._legitimate),
            held=held,
            seconds=seconds,
            report=self.place.report,
        )
