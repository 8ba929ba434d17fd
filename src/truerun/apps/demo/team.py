"""The demo's team: made-up people, marked as such in their names, with real SSH keys. Who is who differs by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from truerun.core.actor import Role

_NAMES = (
    "Amara Veldt", "Bruno Ilves", "Chiara Moss", "Dario Fenn", "Eleni Brandt", "Farid Okoye", "Greta Solano", "Hideo Lund",
    "Ines Karlow", "Jonas Adeyemi", "Keiko Marsh", "Luca Petrov", "Mira Hassel", "Noor Castell", "Oskar Lindahl", "Priya Voss",
)  # fmt: skip
MARK = "(made up)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the team; `id` is the first name in small letters."""

    id: str
    name: str
    role: Role
    mentor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Nine people: an owner, two maintainers, five engineers, a trainee whose mentor is one of the maintainers."""

    owner: Member
    maintainers: tuple[Member, Member]
    engineers: tuple[Member, ...]
    trainee: Member

    @property
    def mentor(self) -> Member:
        """Who answers for the trainee."""
        return next(member for member in self.maintainers if member.id == self.trainee.mentor)

    @property
    def members(self) -> tuple[Member, ...]:
        """Everybody, the owner first."""
        return (self.owner, *self.maintainers, *self.engineers, self.trainee)

    @property
    def contributors(self) -> tuple[Member, ...]:
        """The eight who add rows: everybody but the owner."""
        return self.members[1:]

    def approver(self, author: Member, turn: int, *, mentor_away: bool) -> Member:
        """Who approves what *author* proposes: a trainee's mentor for the trainee; *mentor_away* leaves the mentor out."""
        if author == self.trainee and not mentor_away:
            return self.mentor
        able = [
            member
            for member in (*self.maintainers, self.owner)
            if member != author and not (mentor_away and member == self.mentor)
        ]
        return able[turn % len(able)]


def choose_team(random: Any) -> Team:
    """A team drawn from made-up names."""
    names: Sequence[str] = [_NAMES[int(number)] for number in random.permutation(len(_NAMES))[:9]]
    ids = [name.split()[0].lower() for name in names]

    def member(number: int, role: Role, mentor: str | None = None) -> Member:
        return Member(id=ids[number], name=f"{names[number]} {MARK}", role=role, mentor=mentor)

    return Team(
        owner=member(0, Role.OWNER),
        maintainers=(member(1, Role.MAINTAINER), member(2, Role.MAINTAINER)),
        engineers=tuple(member(number, Role.ENGINEER) for number in range(3, 8)),
        trainee=member(8, Role.TRAINEE, mentor=ids[1 + int(random.integers(2))]),
    )
