"""Every way Truerun can refuse, as one tree; each error says what it got, what it expected and what to do next.

```
TruerunError
├── UsageError            exit 2   the question was wrong
│   ├── DeclarationError           truerun.toml: file, key, line
│   ├── ProjectNotFoundError       no truerun.toml here or above
│   ├── MissingExtraError          an optional dependency is not installed
│   ├── SigningKeyError            no key to sign with, or one that cannot sign
│   ├── CommandNotFoundError       the command to run does not exist
│   └── PolicyError                a step the policy does not know or does not allow to be asked for
├── FormatError           exit 2   text or bytes that do not follow their format
├── InputError            exit 3   something needed is missing or unreadable
├── StorageError          exit 3   something could not be written: full disk, read-only folder, lock held
└── VerificationError     exit 5   a signature, digest or proof does not hold
    └── LedgerCorruptError         the ledger, with the first bad index
```

A *bad question* (usage) is never a *bad answer* (finding): what Truerun is asked to judge never raises, it yields findings.
"""

from __future__ import annotations


class TruerunError(Exception):
    """
    Base of everything Truerun raises on purpose.

    `message` says what is wrong; `got` and `expected` say how it differs; `next_step` says what the reader can do.
    """

    exit_code = 2

    def __init__(self, message: str, *, got: object = None, expected: object = None, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.got = got
        self.expected = expected
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.message]
        if self.got is not None:
            parts.append(f"got: {self.got}")
        if self.expected is not None:
            parts.append(f"expected: {self.expected}")
        if self.next_step is not None:
            parts.append(f"next: {self.next_step}")
        return "\n  ".join(parts)


class UsageError(TruerunError):
    """The question was wrong: an argument, a setting or an environment variable."""


class DeclarationError(UsageError):
    """`truerun.toml` is missing a key, has one too many, or holds a value of the wrong kind."""


class ProjectNotFoundError(UsageError):
    """No `truerun.toml` in this folder or any above it."""


class MissingExtraError(UsageError):
    """An optional dependency is needed and not installed; the message names the extra that brings it."""


class SigningKeyError(UsageError):
    """There is no key to sign with, or the one given cannot sign."""


class CommandNotFoundError(UsageError):
    """The command to run does not exist or is not executable."""


class PolicyError(UsageError):
    """A step that the policy does not know, or that this actor may not take."""


class FormatError(TruerunError):
    """Text or bytes that do not follow their format; `got` holds the offending part, shortened."""


class InputError(TruerunError):
    """Something needed is missing or cannot be read, so there is no answer."""

    exit_code = 3


class StorageError(TruerunError):
    """Something could not be written; what was acknowledged before is still there."""

    exit_code = 3


class VerificationError(TruerunError):
    """A signature, digest or proof does not hold."""

    exit_code = 5


class LedgerCorruptError(VerificationError):
    """The ledger does not verify; `index` is the first entry that cannot be relied on."""

    def __init__(
        self, message: str, *, index: int, got: object = None, expected: object = None, next_step: str | None = None
    ) -> None:
        super().__init__(message, got=got, expected=expected, next_step=next_step)
        self.index = index
