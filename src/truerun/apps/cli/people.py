"""`truerun people`: who may do what. Adding and revoking are signed entries; what the policy would ignore is refused first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from truerun.apps.cli.output import escape, options, say, say_json
from truerun.core.actor import Role
from truerun.core.errors import FormatError, PolicyError, UsageError

if TYPE_CHECKING:
    from truerun.apps.project import Project
    from truerun.core.actor import Person
    from truerun.core.fact import PersonAdded, PersonRevoked
    from truerun.ledger.entry import Entry
    from truerun.oversight.people import People

SCHEMA = 1


@click.group(name="people")
def command() -> None:
    """Add, list and revoke people and their keys."""


@command.command()
@click.argument("person_id", metavar="ID")
@click.option("--name", help="Their name, as the team knows them; default: the id.")
@click.option("--role", type=click.Choice([role.value for role in Role]), help="What they may do.")
@click.option("--mentor", metavar="ID", help="Who answers for a trainee's changes.")
@click.option(
    "--key-file", "key_files", multiple=True, required=True, type=click.Path(path_type=Path), help="Their public SSH key (.pub)."
)
@click.option("--robot", is_flag=True, help="A program: it proposes and never approves.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with: an owner's.")
@options
def add(
    *,
    person_id: str,
    name: str | None,
    role: str | None,
    mentor: str | None,
    key_files: tuple[Path, ...],
    key: str | None,
    output_format: str,
    config_path: str | None,
    robot: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Add a person, or another key to somebody who is here. Only an owner can."""
    from truerun.adapters.keys import read_public_key
    from truerun.apps.project import open_project
    from truerun.core.fact import PersonAdded
    from truerun.ledger.signing import key_id

    project = open_project(config_path)
    keys = tuple(read_public_key(path) for path in key_files)
    person = _described(project.people(), person_id, name=name, role=role, mentor=mentor, keys=keys, robot=robot)
    entry = _record(project, PersonAdded(person=person, at=project.clock()), key)
    people = project.people()
    standing = people.get(person_id) or person
    if output_format == "json":
        say_json({"schema": SCHEMA, "entry": entry.index, "person": _row(people, standing)})
    elif not quiet:
        say(f"{person_id} ({standing.role.value}) may sign with {', '.join(key_id(k) for k in keys)} (entry {entry.index})")
        if standing.mentor is not None:
            say(f"  {standing.mentor} answers for their changes and gets the first question about them")
        adder = people.actor(entry.key, entry.index).id
        if not people.grants[keys[0]].alone and project.history().latest_proposal() is not None:
            say(
                f"  until the next lock is approved, {person_id} is no second pair of eyes for {adder}, nor {adder} for {person_id}"
            )
    return 0


@command.command(name="list")
@options
def list_people(output_format: str, config_path: str | None, *, quiet: bool, verbose: bool) -> int:
    """Who may sign: role, mentor, keys, since which entry; and entries about people that have no effect."""
    from truerun.apps.project import open_project

    people = open_project(config_path).people()
    rows = [_row(people, person) for person in people.all()]
    former = sorted({standing.person.id for standing in people.standings} - {row["id"] for row in rows})
    if output_format == "json":
        refused = [
            {"entry": item.entry, "key_id": people.actor(item.key, item.entry).id, "what": item.what, "reason": item.reason}
            for item in people.refused
        ]
        say_json({"schema": SCHEMA, "people": rows, "former": former, "refused": refused})
        return 0
    width = max((len(row["id"]) for row in rows), default=0)
    for row in rows:
        extra = f", mentored by {row['mentor']}" if row["mentor"] else ", a robot" if row["robot"] else ""
        say(f"{row['id']:<{width}}  {row['role'] + extra}  ({escape(row['name'])}), since entry {row['since']}")
        for line in row["keys"]:
            say(f"{'':<{width}}    {line['key_id']}  given by {escape(line['by'])} at entry {line['entry']}")
    if former and not quiet:
        say(f"no longer: {', '.join(former)}")
    for item in people.refused:
        who = escape(people.actor(item.key, item.entry).id)
        say(f"entry {item.entry} ({item.what}, signed by {who}) has no effect: {escape(item.reason)}", err=True)
    return 0


@command.command()
@click.argument("person_id", metavar="ID")
@click.option("--ssh-key", metavar="KEY", help="Only this key: its .pub file, its line or its SHA256 fingerprint.")
@click.option("--reason", required=True, help="Why, in a sentence; kept with the entry.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with: an owner's, or your own for yourself.")
@options
def revoke(
    *,
    person_id: str,
    ssh_key: str | None,
    reason: str,
    key: str | None,
    output_format: str,
    config_path: str | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """From this entry on, a person (or one key of theirs) may not sign. Lists everything these keys have signed."""
    from truerun.apps.project import open_project
    from truerun.core.fact import PersonRevoked

    project = open_project(config_path)
    person = project.people().get(person_id)
    line = _named_key(person, ssh_key) if ssh_key is not None else None
    entry = _record(project, PersonRevoked(person=person_id, reason=reason, at=project.clock(), key=line), key)
    keys = (line,) if line is not None else person.keys if person is not None else ()
    signed = [(item.index, item.fact.KIND) for item in project.entries() if item.key in keys and item.index != entry.index]
    if output_format == "json":
        listed = [{"entry": index, "kind": kind} for index, kind in signed]
        say_json({"schema": SCHEMA, "entry": entry.index, "person": person_id, "keys": keys, "signed": listed})
        return 0
    if quiet:
        return 0
    what = f"one key of {person_id}" if line is not None else person_id
    say(f"{what} may not sign from entry {entry.index} on; what was signed before keeps its place")
    if signed:
        say(f"  {'this key' if len(keys) == 1 else 'these keys'} signed before, to look at if a key was lost:")
        for index, kind in signed:
            say(f"    entry {index}  {kind}")
    return 0


def _described(
    people: People, person_id: str, *, name: str | None, role: str | None, mentor: str | None, keys: tuple[str, ...], robot: bool
) -> Person:
    from truerun.core.actor import Person

    current = people.get(person_id)
    if current is None:
        if role is None and not robot:
            raise UsageError(
                f"{person_id} is new here and needs a role",
                expected="--role owner, maintainer, engineer or trainee (with --mentor)",
            )
        kind = Role(role) if role is not None else Role.ENGINEER
        return Person(id=person_id, name=name or person_id, role=kind, keys=keys, mentor=mentor, robot=robot)
    return Person(
        id=person_id,
        name=name or current.name,
        role=Role(role) if role is not None else current.role,
        keys=keys,
        mentor=mentor or current.mentor,
        robot=robot or current.robot,
    )


def _record(project: Project, fact: PersonAdded | PersonRevoked, key: str | None) -> Entry:
    from truerun.ledger.signing import key_id

    people, signer = project.people(), project.signer(key)
    reason = people.explain(fact, signer.public_key)
    if reason is not None:
        owners = ", ".join(person.id for person in people.all() if person.role is Role.OWNER)
        raise PolicyError(
            f"this would have no effect: {reason}",
            got=f"signed by {people.actor(signer.public_key).id if people.resolve(signer.public_key) else key_id(signer.public_key)}",
            next_step=f"owners here: {owners or 'none'}",
        )
    return project.ledger.append(fact, signer)


def _named_key(person: Person | None, text: str) -> str:
    """The key of *person* that *text* names: a .pub file, a key line or a fingerprint; raises UsageError."""
    from truerun.adapters.keys import read_public_key
    from truerun.ledger.signing import key_id
    from truerun.ledger.sshsig import parse_public_key

    keys = person.keys if person is not None else ()
    by_fingerprint = {key_id(line): line for line in keys}
    if text in by_fingerprint:
        return by_fingerprint[text]
    if Path(text).is_file():
        return read_public_key(Path(text))
    try:
        return parse_public_key(text).line
    except FormatError as error:
        raise UsageError(
            "this names no key",
            got=text[:80],
            expected=", ".join(by_fingerprint) or "a .pub file",
            next_step="truerun people list",
        ) from error


def _row(people: People, person: Person) -> dict[str, Any]:
    from truerun.ledger.signing import key_id

    grants = [(line, people.grants[line]) for line in person.keys]
    return {
        "id": person.id,
        "name": person.name,
        "role": person.role.value,
        "mentor": person.mentor,
        "robot": person.robot,
        "since": people.since(person.id),
        "keys": [
            {"key": line, "key_id": key_id(line), "entry": grant.entry, "by": people.actor(grant.by, grant.entry).id}
            for line, grant in grants
        ],
    }
