"""The beginning of a project: its declaration, its `.truerun` folder, its ledger and the first owner. Overwrites nothing."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path

from truerun.adapters import git
from truerun.adapters.ledger_files import LEDGER_FILE, create_ledger
from truerun.adapters.objects import write_whole
from truerun.apps.project import DECLARATION, FOLDER, Project, open_project, read_declaration
from truerun.core.actor import Person, Role
from truerun.core.errors import PolicyError, UsageError
from truerun.core.fact import PersonAdded
from truerun.ledger.signing import Signer
from truerun.oversight.people import People


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What was made: the project, its first owner, and whether the declaration was written or had been there."""

    project: Project
    owner: Person
    wrote_declaration: bool


def require_nothing_begun(root: Path) -> None:
    """Raise UsageError when *root* has a ledger with people already."""
    if not (root / FOLDER / LEDGER_FILE).is_file() or not (root / DECLARATION).is_file():
        return
    project = open_project(str(root / DECLARATION))
    if len(project.ledger) and project.people().all():
        raise UsageError(f"{root} is a project already", next_step="truerun lock; truerun people add for more people")


def first_owner(root: Path, public_key: str, person_id: str | None, name: str | None) -> Person:
    """The owner to register: *person_id* and *name*, else the login and the name that git or the login knows."""
    login = _login()
    chosen = person_id or re.sub(r"[^a-z0-9._-]+", "-", login.lower()).strip("-._")[:64] or "owner"
    return Person(id=chosen, name=name or git.user_name(root) or login or chosen, role=Role.OWNER, keys=(public_key,))


def begin(root: Path, declaration_text: str | None, signer: Signer, owner: Person) -> Begun:
    """
    Write what is missing in *root* and record the ledger and its owner; *declaration_text* None keeps the file there.

    Can be run again after it was cut short. Raises UsageError where something exists, PolicyError for an id or name that
    cannot be, StorageError.
    """
    path = root / DECLARATION
    if declaration_text is not None:
        if path.exists():
            raise UsageError(f"{path} exists", next_step="truerun init uses it as it is")
        data = declaration_text.encode()
        name = read_declaration(data, DECLARATION).project.name
    else:
        name = read_declaration(path.read_bytes(), DECLARATION).project.name
    added = PersonAdded(person=owner, at=Project.clock())
    _require_possible(added, signer)
    folder = root / FOLDER
    if declaration_text is not None:
        write_whole(path, lambda stream: stream.write(data))
    if not (folder / ".gitignore").exists():
        write_whole(
            folder / ".gitignore", lambda stream: stream.write(b"# Ledger, objects and runs of Truerun: never committed.\n*\n")
        )
    project = open_project(str(path))
    if not (folder / LEDGER_FILE).is_file() or not len(project.ledger):
        create_ledger(folder, project=name, signer=signer, at=added.at)
        project = open_project(str(path))
    project.ledger.append(added, signer)
    return Begun(project=project, owner=owner, wrote_declaration=declaration_text is not None)


def _require_possible(added: PersonAdded, signer: Signer) -> None:
    reason = People(founder=signer.public_key).explain(added, signer.public_key)
    if reason is not None:
        raise PolicyError(f"{added.person.id} cannot be the first owner: {reason}", next_step="give another --id or --name")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A user id without a name, as in some containers.
        return ""
