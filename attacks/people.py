"""P4, P5, P6: an approval that is not one. What must happen is a refusal: the run is held and its command never starts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from attacks.forgery import add_robot, decide, inject, newest_decision, proposal_of, revoke_key
from attacks.project import COMMAND, ENGINEER, MAINTAINER, MENTOR, OWNER, TRAINEE, Project, add_person, build_ledger, make_key
from attacks.story import Place, Planted, Seen, Story, Twin, Variant, run_and_see

DRIFT = frozenset({"config-drift", "data-drift", "command-drift", "code-drift"})
RATES = ("0.03", "0.0003", "0.0031", "0.3")


def held(project: Project, planted: Planted) -> Seen:
    """`truerun run` in enforce mode, which must answer "waiting for approval", or that the ledger does not hold."""
    said = run_and_see(project, planted)
    answers = {(4,): "held, exit 4", (5,): "the ledger is refused, exit 5"}
    return replace(said, refused=None if said.started else answers.get(said.codes))


def _retune(project: Project, draw: random.Random) -> str:
    rate = draw.choice(RATES)
    project.replace("config.yaml", "lr: 0.003", f"lr: {rate}")
    return rate


def _propose(project: Project, author: str, draw: random.Random) -> str:
    rate = _retune(project, draw)
    project.lock(author, "tune")
    return rate


def _refusal(name: str, what: str, act: Callable[[Project, random.Random], None], author: str = MAINTAINER) -> Variant:
    """*author* proposes a change, *act* tries to have it approved, the run must be held."""

    def plant(project: Project, draw: random.Random) -> Planted:
        rate = _propose(project, author, draw)
        act(project, draw)
        return Planted(what=f"{author} sets lr {rate}; {what}", started=False)

    return Variant(name=name, plant=plant, look=held)


def _other_proposal(project: Project, draw: random.Random) -> None:
    decide(project, MAINTAINER, proposal=proposal_of(project, "approved"))


def _other_ledger(project: Project, draw: random.Random) -> None:
    """The maintainer's genuine approval of the same digest in another ledger, put into this one with this log's key."""
    other = build_ledger(project, project.home.parent / "elsewhere")
    other.lock(ENGINEER, "tune")
    other.approve(MAINTAINER)
    inject(project, newest_decision(other).envelope)


def _other_origin(project: Project, draw: random.Random) -> None:
    decide(project, MAINTAINER, origin="example.org/another-ledger")


def _replayed(project: Project, draw: random.Random) -> None:
    """Approved, then rejected by the owner; then the approval is entered once more."""
    project.approve(MAINTAINER)
    approval = newest_decision(project).envelope
    project.must("reject", "--reason", "too high", key=OWNER)
    inject(project, approval)


def _back_dated(project: Project, draw: random.Random) -> None:
    """The key was revoked; the approval claims to be from before."""
    revoke_key(project, MAINTAINER)
    decide(project, MAINTAINER, at="2026-01-05T09:00:00Z")


def _own(project: Project, draw: random.Random) -> None:
    project.truerun("approve", "--reason", "mine", key=MAINTAINER)


def _own_written(project: Project, draw: random.Random) -> None:
    """Past the command line, which would refuse."""
    decide(project, MAINTAINER)


def _second_key(project: Project, draw: random.Random) -> None:
    make_key(project, "marek-second")
    words = ("people", "add", MAINTAINER, "--name", "Marek Example", "--role", "maintainer")
    project.truerun(*words, "--key-file", str(project.public_key("marek-second")), "--key", str(project.key(OWNER)))
    project.truerun("approve", "--reason", "looked at it", key="marek-second")
    decide(project, "marek-second")


def _look_alike(project: Project, draw: random.Random) -> None:
    name = draw.choice(("rnarek", "marek-", "mar-ek", "marek.2"))
    make_key(project, name)
    full = draw.choice(("Marek Example", "M\u0430rek Example"))
    words = ("people", "add", name, "--name", full, "--role", "maintainer", "--key-file", str(project.public_key(name)))
    project.truerun(*words, "--key", str(project.key(OWNER)))
    project.truerun("approve", "--reason", "looked at it", key=name)
    decide(project, name)


def _own_account(project: Project, draw: random.Random) -> None:
    """The owner who made the change lets somebody in, with a key of their own, and approves with it."""
    make_key(project, "paula")
    add_person(project, "paula", "maintainer")
    project.truerun("approve", "--reason", "looked at it", key="paula")
    decide(project, "paula")


def _robot(project: Project, draw: random.Random) -> None:
    make_key(project, "nightly")
    add_robot(project, "nightly", draw.choice(("engineer", "maintainer")))
    project.truerun("approve", "--reason", "checks passed", key="nightly")
    decide(project, "nightly")


def _without_mentor(project: Project, draw: random.Random) -> None:
    project.must("approve", "--reason", "looked at it", key=MAINTAINER, codes=(0, 4))


def _by_engineer(project: Project, draw: random.Random) -> None:
    project.truerun("approve", "--reason", "looked at it", key=ENGINEER)
    decide(project, ENGINEER)


def _swap(project: Project, draw: random.Random) -> Planted:
    """A is approved; then the file is another."""
    project.replace("config.yaml", "steps: 120", "steps: 130")
    project.agree(ENGINEER, "longer")
    rate = _retune(project, draw)
    return Planted(
        what=f"lr {rate} after the approval",
        rules=DRIFT,
        place=Place(path="config.yaml", key="optimizer.lr", words=(rate,)),
        started=False,
    )


def _link(project: Project, draw: random.Random) -> Planted:
    """The approved file's name now leads to another file."""
    table = project.table()
    other = project.root / "data" / "other.parquet"
    table.with_columns(table["digit"].shuffle(seed=draw.randrange(1000)).alias("digit")).write_parquet(other)
    (project.root / "data" / "train.parquet").unlink()
    (project.root / "data" / "train.parquet").symlink_to("other.parquet")
    return Planted(what="data/train.parquet is a link to other rows", rules=DRIFT, place=Place(words=("train",)), started=False)


def _other_config(project: Project, draw: random.Random) -> Planted:
    """Everything as approved, but the command names another file."""
    name = draw.choice(("other.yaml", "final.yaml"))
    project.write(name, project.read("config.yaml").replace("lr: 0.003", "lr: 0.03"))
    return Planted(
        what=f"--config {name} on start",
        rules=DRIFT,
        place=Place(words=(name,)),
        started=False,
        command=(*COMMAND[:-1], name),
    )


def _old_lock(project: Project, draw: random.Random) -> Planted:
    """The lock file of the approved state is put back, the change stays."""
    approved = project.read("truerun.lock")
    rate = _propose(project, ENGINEER, draw)
    project.write("truerun.lock", approved)
    place = Place(path="config.yaml", key="optimizer.lr", words=(rate,))
    return Planted(what=f"lr {rate} under the approved lock's file", rules=DRIFT, place=place, started=False)


def _properly(author: str) -> Callable[[Project, random.Random], None]:
    def act(project: Project, draw: random.Random) -> None:
        _retune(project, draw)
        project.agree(author, "tune")

    return act


def _after_rejection(project: Project, draw: random.Random) -> None:
    """Rejected once, corrected, approved: a decision is about one exact digest."""
    _propose(project, ENGINEER, draw)
    project.must("reject", "--reason", "too high", key=MAINTAINER)
    project.write("config.yaml", project.read("config.yaml").replace("batch_size: 64", "batch_size: 32"))
    project.agree(ENGINEER, "smaller batches")


STORIES = (
    Story(
        id="P4",
        title="an approval back-dated, replayed, or for something else",
        expected="the run is held",
        variants=(
            _refusal("for another proposal", "an approval that names an earlier proposal", _other_proposal, ENGINEER),
            _refusal("for another ledger", "an approval that names another ledger", _other_origin, ENGINEER),
            _refusal("from another ledger", "the approval given in another ledger is copied here", _other_ledger, ENGINEER),
            _refusal("replayed after a rejection", "approved, rejected, the approval entered again", _replayed, ENGINEER),
            _refusal("back-dated", "an approval by a revoked key, dated before", _back_dated, ENGINEER),
        ),
        twins=(Twin(what="rejected, corrected, approved", act=_after_rejection, look=run_and_see),),
    ),
    Story(
        id="P5",
        title="self-approval",
        expected="the run is held",
        variants=(
            _refusal("own change", "and approves it", _own),
            _refusal("own change, written directly", "and enters the approval past the command line", _own_written),
            _refusal("second key", "and approves with a second key", _second_key),
            _refusal("look-alike", "and approves as somebody whose name reads the same", _look_alike),
            _refusal("own account", "lets somebody new in, who approves", _own_account, OWNER),
            _refusal("robot", "a robot approves", _robot),
            _refusal("without the mentor", "a maintainer approves, the mentor does not", _without_mentor, TRAINEE),
            _refusal("by an engineer", "an engineer approves", _by_engineer, TRAINEE),
        ),
        twins=tuple(
            Twin(what=f"{author}'s change approved by {who}", act=_properly(author), look=run_and_see)
            for author, who in ((MAINTAINER, OWNER), (TRAINEE, MENTOR))
        ),
    ),
    Story(
        id="P6",
        title="approve A, run B",
        expected="what differs; the command is not started",
        variants=(
            Variant(name="swap after approval", plant=_swap, look=run_and_see),
            Variant(name="symlink", plant=_link, look=run_and_see),
            Variant(name="other config on start", plant=_other_config, look=run_and_see),
            Variant(name="old lock file", plant=_old_lock, look=run_and_see),
        ),
        twins=(Twin(what="approve A, run A", act=_properly(ENGINEER), look=run_and_see),),
    ),
)
