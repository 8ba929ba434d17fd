"""`truerun approve`: show what a lock changes and by whom, then sign a yes to exactly that. `reject.py` says no the same way."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from truerun.apps.cli.output import options
from truerun.core.decision import Answer

if TYPE_CHECKING:
    from truerun.apps.answering import Question
    from truerun.core.decision import Decision


@click.command()
@click.argument("lock", required=False)
@click.option("--reason", default="", help="Why, in a sentence; kept with the entry.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with.")
@click.option("--yes", is_flag=True, help="Sign without asking; without a terminal nothing is asked.")
@options
def command(
    lock: str | None,
    reason: str,
    key: str | None,
    output_format: str,
    config_path: str | None,
    *,
    yes: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Say yes, signed, to exactly LOCK: a digest or its beginning; default: the newest proposal. Any change voids it."""
    return answer_lock(
        Answer.APPROVE, lock, reason, key, config_path, as_json=output_format == "json", yes=yes, quiet=quiet, verbose=verbose
    )


def answer_lock(
    answer: Answer,
    lock: str | None,
    reason: str,
    key: str | None,
    config_path: str | None,
    *,
    as_json: bool,
    yes: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Show the question, sign *answer*, say what is still needed; raises PolicyError when this key has no say in it."""
    from truerun.apps.answering import decision_now, open_question, record_answer, require_say, standing_answer
    from truerun.apps.cli.output import say
    from truerun.apps.project import open_project

    project = open_project(config_path)
    signer = project.signer(key)
    question = open_question(project, lock)
    person = require_say(question, signer.public_key, answer)
    shown = not (quiet or as_json)
    if shown:
        _show_question(question, verbose=verbose)
    known = standing_answer(question, person)
    entry = None
    if known is None or known.fact.answer is not answer:
        if shown and not yes and sys.stdin.isatty() and sys.stdout.isatty():
            click.confirm(f"Sign as {person.id}: {answer.value} lock {question.digest.short}?", abort=True)
        entry = record_answer(project, question, signer, answer, reason).index
    decision = decision_now(project, question)
    if as_json:
        _say_json(question, answer, entry if entry is not None else known.entry if known else None, decision)
    elif shown:
        word = "approved" if answer is Answer.APPROVE else "rejected"
        already = "" if entry is not None or known is None else "already "
        number = entry if entry is not None else known.entry if known else 0
        say(f"{person.id} {already}{word} lock {question.digest.short} (entry {number})", bold=True)
        _show_decision(decision, question)
    return 0


def _show_question(question: Question, *, verbose: bool) -> None:
    from truerun.apps.cli.changes import show_changes
    from truerun.apps.cli.output import escape, say

    review = question.review
    base = f"since lock {review.base.fact.lock.short} (entry {review.base.entry})" if review.base else "the first lock"
    say(
        f"lock {question.digest.short}, proposed by {review.proposal.person.id} at entry {review.proposal.entry}; {base}",
        bold=True,
    )
    if review.proposal.fact.note:
        say(f"  note: {escape(review.proposal.fact.note)}")
    if not question.compared:
        say("  the stored locks are not on this machine; this is what the proposals say, not compared anew")
    for author, changes in question.changes.items():
        mentors = review.case.mentors.get(author, ())
        say(f"{escape(author)}" + (f" (trainee; {', '.join(mentors)} can say more)" if mentors else ""), bold=True)
        show_changes(changes, verbose=verbose)
    if not question.changes:
        say("  nothing differs from the last approved lock")
    if review.base is None:
        _show_configuration(question, verbose=verbose)


def _show_configuration(question: Question, *, verbose: bool) -> None:
    """Every value of a first lock: there is nothing earlier to show the difference from."""
    from truerun.apps.cli.changes import MAX_SHOWN
    from truerun.apps.cli.output import escape, say
    from truerun.inspection.reference import shown

    values = [(path, key, item.value) for path, config in question.lock.config.items() for key, item in config.keys.items()]
    for path, key, value in values if verbose else values[:MAX_SHOWN]:
        say(f"  {escape(path)} {escape(key)} = {escape(shown(value))}")
    if len(values) > MAX_SHOWN and not verbose:
        say(f"  … and {len(values) - MAX_SHOWN} more (-v shows all)")


def _show_decision(decision: Decision, question: Question) -> None:
    from truerun.apps.cli.output import escape, say

    for reason in decision.reasons:
        say(f"  {escape(reason)}")
    for need in decision.needs:
        who = ", ".join(need.who) or "nobody yet; an owner can add a maintainer who made none of the changes"
        say(f"  still needed: {escape(need.what)}. Who can: {escape(who)}")
    if decision.needs:
        say(f"  they run: truerun approve {question.digest.short}")
    else:
        say("  nothing more is needed: truerun run admits exactly this lock", fg="green")


def _say_json(question: Question, answer: Answer, entry: int | None, decision: Decision) -> None:
    from truerun.apps.cli.changes import changes_as_json
    from truerun.apps.cli.output import say_json

    say_json(
        {
            "schema": 1,
            "lock": question.digest,
            "answer": answer,
            "entry": entry,
            "compared": question.compared,
            "changes": {author: changes_as_json(changes) for author, changes in question.changes.items()},
            "decision": decision,
        }
    )
