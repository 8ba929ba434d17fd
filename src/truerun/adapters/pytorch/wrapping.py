"""
Puts a look before or after a function of torch. What the function takes, does, returns and raises stays as it is.

While torch.compile traces a call, the look steps aside, so that the graph is the one without it.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

from torch._C._dynamo import eval_frame
from torch.compiler import is_compiling

Look = Callable[..., object]


class Watcher(Protocol):
    """Whoever looks: `tell` calls *seen* with the arguments of the watched call, and keeps its errors from the program."""

    def tell(self, seen: Look, args: Any, kwargs: Any) -> None:
        """Call seen(*args, **kwargs); never raises."""


def calling(original: Callable[..., Any], watcher: Watcher, *, before: Look | None = None, after: Look | None = None) -> Any:
    """*original* with a call of *before* and of *after* around it, both with its arguments. *after* is left out when it raises."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return original(*args, **kwargs)
        if before is not None:
            watcher.tell(before, args, kwargs)
        result = original(*args, **kwargs)
        if after is not None:
            watcher.tell(after, args, kwargs)
        return result

    return wrapper


def returning(original: Callable[..., Any], watcher: Watcher, look: Look) -> Any:
    """*original* with a call of *look*, which gets the result first and then the arguments, after it returned."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return original(*args, **kwargs)
        result = original(*args, **kwargs)
        watcher.tell(look, (result, *args), kwargs)
        return result

    return wrapper


def of_a_signal(error: BaseException) -> bool:
    """
    Whether *error* comes out of a signal handler of the program's, which Python runs between any two instructions, so also ours.

    torch's data loader raises in one when a worker is killed: that error is the program's.
    """
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()} - {None}
    place = error.__traceback__
    while place is not None:
        if place.tb_frame.f_code in handlers:
            return True
        place = place.tb_next
    return False


def uncompiled(function: Callable[..., Any]) -> None:
    """
    From now on torch.compile neither traces into *function* nor compiles what it calls.

    Does what torch.compiler.disable does, without importing the compiler.
    """
    function._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
    if not hasattr(eval_frame, "set_code_exec_strategy"):  # torch before 2.6
        return
    skip = eval_frame._FrameAction.SKIP  # noqa: SLF001 (its public name comes with an import of the whole compiler)
    eval_frame.set_code_exec_strategy(function.__code__, eval_frame._FrameExecStrategy(skip, skip))  # noqa: SLF001


def within_compiled() -> bool:
    """Whether torch.compile is at work somewhere up the stack."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    frame = sys._getframe() if dynamo is not None else None  # noqa: SLF001
    while frame is not None:
        if frame.f_globals is vars(dynamo):
            return True
        frame = frame.f_back
    return False


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """
    Put make(original) in the place of the function *name* that *owner* (a class or a module) itself defines.

    Returns what takes it out again, unless somebody else has put something there in the meantime. Does nothing where
    *owner* defines no such function.
    """
    original = vars(owner).get(name)
    if not callable(original):
        return lambda: None
    ours = make(original)
    setattr(owner, name, ours)

    def undo() -> None:
        if vars(owner).get(name) is ours:
            setattr(owner, name, original)

    return undo
