"""Who did something, and how we know. A person's role, past or seniority is never evidence; it only says what they may do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Basis(enum.Enum):
    """How we know who made a change, strongest first."""

    SIGNED = "signed"
    LEDGER = "ledger"
    GIT = "git"
    CONTRIBUTOR = "contributor"
    FILESYSTEM = "filesystem"


class Role(enum.Enum):
    """A set of permissions (RBAC)."""

    OWNER = "owner"
    MAINTAINER = "maintainer"
    ENGINEER = "engineer"
    TRAINEE = "trainee"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person or robot, as far as a record names one: a person's id in the ledger, or a git author, or a file's owner."""

    id: str
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """
    Somebody who may sign.

    `keys` are OpenSSH public keys (`ssh-ed25519 AAAA…`) without comment. `mentor` is the id of the person answerable
    for a trainee's changes: required for trainees, None for everybody else.
    """

    id: str
    name: str
    role: Role
    keys: tuple[str, ...]
    mentor: str | None = None
    robot: bool = False
