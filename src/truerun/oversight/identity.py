"""Ids and names that cannot be taken for one another, so that one person stays one person.

Ids are plain ASCII; names may be any writing, but no two people may have names that look alike. Looking alike is judged
by a skeleton, after Unicode UTS #39 section 4: compatibility forms, case, spacing, marks that do not show and the letters
of Cyrillic and Greek that read as Latin ones are folded away. The table is the short list of full look-alikes, not the
whole of confusables.txt: what it misses is still two ids, two keys and an entry signed by an owner.
"""

from __future__ import annotations

import re
import unicodedata

MAX_NAME = 100
_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_LOOK_ALIKES = str.maketrans(
    {
        **dict(zip("авгеёзіјкмнорстухԁһԛԝьѕ", "abreezijkmhopctyxdhqwbs", strict=True)),
        **dict(zip("αβγεζικμνορτυχ", "abyezikmvoptyx", strict=True)),
        **dict(zip("ıɑɡ01|", "iagoll", strict=True)),
    }
)


def explain_id(text: str) -> str | None:
    """Why *text* cannot be a person's id, or None where it can: 1 to 64 of a-z, 0-9, dot, dash, underscore."""
    if _ID.fullmatch(text):
        return None
    return f"an id is 1 to 64 lower-case letters a-z, digits, dots, dashes and underscores, and {text[:40]!r} is not"


def explain_name(text: str) -> str | None:
    """Why *text* cannot be a person's name, or None where it can: visible characters on one line, at most 100."""
    if not text.strip() or len(text) > MAX_NAME:
        return f"a name is 1 to {MAX_NAME} characters"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") for character in text):
        return "a name has visible characters only"
    return None


def look_alike(one: str, other: str) -> bool:
    """Whether a hurried reader could take *one* for *other*; symmetric, and true of a text and itself."""
    return not _skeletons(one).isdisjoint(_skeletons(other))


def _skeletons(text: str) -> frozenset[str]:
    # A capital I is drawn like a small l, but folds to i: both readings are kept.
    return frozenset((_skeleton(text), _skeleton(text.replace("I", "l"))))


def _skeleton(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(character for character in folded if character.isalnum() or character == "|")
    return letters.translate(_LOOK_ALIKES).replace("rn", "m").replace("vv", "w")
