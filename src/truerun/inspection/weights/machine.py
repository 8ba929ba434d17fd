"""Runs a pickle on paper: what would be imported and called, without importing or calling anything.

Default deny. Every global, call, class construction, state assignment and persistent id that is not on the short list of
`allowed.py` is one refusal; so is anything the strict reader cannot read. After a refusal the rest is still read, so that
one report names everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from truerun.core.errors import FormatError
from truerun.inspection.weights.allowed import CALLABLES, ITEM_BYTES, STORAGES, TENSOR_MAKERS, allows, allows_state
from truerun.inspection.weights.opcodes import Opcode, read_opcodes
from truerun.inspection.weights.source import Source

MAX_REFUSALS = 20
MAX_STACK = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """
    One reason not to load: the opcode, the byte it stands at, the global it concerns if any, and why, in words.

    `broken` marks the place where reading had to stop.
    """

    opcode: str
    offset: int
    name: str | None
    why: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Global:
    """A name that loading would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A tensor's bytes, by key: kept beside the pickle. `size` in bytes, None for a type without a fixed item size."""

    key: str
    size: int | None
    items: int


@dataclass(slots=True)
class _Object:
    """What a call would make. `filled` once something was put into it; `sealed` when nothing may be any more."""

    maker: Global | None
    filled: bool = False
    sealed: bool = False

    @property
    def is_empty_mapping(self) -> bool:
        return self.maker == Global("collections", "OrderedDict") and not self.filled


@dataclass(frozen=True, slots=True)
class PickleReport:
    """What reading one pickle came to; `end` is the offset after STOP, None when it could not be read to its end."""

    refusals: tuple[Refusal, ...]
    end: int | None
    value: object = None
    storages: tuple[Storage, ...] = ()


class _Mark:
    """The place on the stack that MARK leaves."""


_OPAQUE = _Object(None, filled=True)
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    [
        "FLOAT",
        "INT",
        "BININT",
        "BININT1",
        "LONG",
        "BININT2",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "BINFLOAT",
        "BINBYTES",
        "SHORT_BINBYTES",
        "LONG1",
        "LONG4",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)


@dataclass(slots=True)
class _Machine:
    stack: list[object] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)

    def refuse(self, opcode: Opcode, why: str, name: object = None) -> None:
        if len(self.refusals) < MAX_REFUSALS:
            self.refusals.append(
                Refusal(opcode=opcode.name, offset=opcode.offset, name=None if name is None else str(name), why=why)
            )

    def push(self, value: object) -> None:
        if len(self.stack) >= MAX_STACK:
            raise FormatError("a pickle that needs too deep a stack", expected=f"at most {MAX_STACK}")
        self.stack.append(value)

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] + 1 if self.marks else 0):
            raise FormatError("a pickle that takes from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> tuple[object, ...]:
        if not self.marks:
            raise FormatError("a pickle that looks for a mark that is not there")
        start = self.marks.pop()
        items = tuple(self.stack[start + 1 :])
        del self.stack[start:]
        return items

    def top(self) -> object:
        value = self.pop()
        self.stack.append(value)
        return value

    def fill(self, expected: type | tuple[type, ...], opcode: Opcode, items: tuple[object, ...]) -> None:
        """Put *items* into the container on top: only plain containers and what an allowed call made can take them."""
        target = self.top()
        if isinstance(target, _Object):
            target.filled = target.filled or bool(items)
            if target.sealed:
                self.refuse(opcode, "adds hooks to a tensor")
        elif isinstance(target, expected) and isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, expected):
            self.refuse(opcode, "puts items into something that is not a container")


def read_pickle(source: Source, start: int = 0, *, storages: bool = False) -> PickleReport:
    """
    Read the pickle that begins at *start*. With *storages*, torch's persistent ids are understood and reported.

    Never raises for what is in the file: what cannot be read is a refusal, and `end` is None.
    """
    machine = _Machine()
    last = Opcode("", start)
    try:
        for opcode in read_opcodes(source, start):
            if opcode.name == "STOP":
                value = machine.pop()
                if machine.stack or machine.marks:
                    raise FormatError("a pickle that leaves something on the stack")
                end = opcode.offset + 1
                return PickleReport(tuple(machine.refusals), end, value, tuple(machine.storages.values()))
            last = opcode
            _step(machine, opcode, storages)
    except FormatError as error:
        why = error.message + (f" (got {error.got})" if error.got is not None else "")
        machine.refusals.append(
            Refusal(opcode=last.name, offset=last.offset, name=None, why=f"cannot be read further: {why}", broken=True)
        )
    return PickleReport(tuple(machine.refusals), None, None, tuple(machine.storages.values()))


def _step(machine: _Machine, opcode: Opcode, storages: bool) -> None:
    name = opcode.name
    if name in _LITERALS:
        machine.push(opcode.argument)
    elif name in _CONSTANTS:
        machine.push(_CONSTANTS[name])
    elif name in _STEPS:
        _STEPS[name](machine, opcode)
    elif name in ("BINPERSID", "PERSID"):
        _persistent(machine, opcode, storages)
    elif name not in ("PROTO", "FRAME"):
        machine.refuse(opcode, f"{name} has no place in a checkpoint")
        if name in ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER"):
            machine.push(_OPAQUE)


def _import(machine: _Machine, opcode: Opcode, module: object, name: object) -> object:
    if not isinstance(module, str) or not isinstance(name, str):
        machine.refuse(opcode, "imports a name that is computed, not written")
        return _OPAQUE
    found = Global(module, name)
    if not allows(module, name):
        machine.refuse(opcode, f"imports {found}, which no checkpoint needs", found)
    return found


def _global(machine: _Machine, opcode: Opcode) -> None:
    module, name = opcode.argument if isinstance(opcode.argument, tuple) else (None, None)
    machine.push(_import(machine, opcode, module, name))


def _stack_global(machine: _Machine, opcode: Opcode) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(_import(machine, opcode, module, name))


def _call(machine: _Machine, opcode: Opcode, function: object, arguments: object) -> None:
    made = _Object(function if isinstance(function, Global) else None)
    check = CALLABLES.get((function.module, function.name)) if isinstance(function, Global) else None
    if check is None:
        machine.refuse(opcode, f"calls {function if isinstance(function, Global) else 'something computed'}", made.maker)
    elif not isinstance(arguments, tuple) or not check(arguments):
        machine.refuse(opcode, f"calls {function} with arguments that no checkpoint needs", function)
    else:
        made.filled = bool(arguments)
        if isinstance(function, Global) and (function.module, function.name) in TENSOR_MAKERS:
            for argument in arguments:
                if isinstance(argument, _Object) and argument.is_empty_mapping:
                    argument.sealed = True
    machine.push(made)


def _reduce(machine: _Machine, opcode: Opcode) -> None:
    arguments, function = machine.pop(), machine.pop()
    _call(machine, opcode, function, arguments)


def _new_object_ex(machine: _Machine, opcode: Opcode) -> None:
    _, _, function = machine.pop(), machine.pop(), machine.pop()
    machine.refuse(opcode, "constructs something with keyword arguments", function if isinstance(function, Global) else None)
    machine.push(_OPAQUE)


def _object(machine: _Machine, opcode: Opcode) -> None:
    function, *arguments = machine.pop_to_mark() or (None,)
    _call(machine, opcode, function, tuple(arguments))


def _instance(machine: _Machine, opcode: Opcode) -> None:
    module, name = opcode.argument if isinstance(opcode.argument, tuple) else (None, None)
    arguments = machine.pop_to_mark()
    _call(machine, opcode, _import(machine, opcode, module, name), arguments)


def _build(machine: _Machine, opcode: Opcode) -> None:
    state, target = machine.pop(), machine.top()
    maker = target.maker if isinstance(target, _Object) else target if isinstance(target, Global) else None
    if not isinstance(target, _Object) or maker is None or not allows_state(maker.module, maker.name, state):
        machine.refuse(opcode, f"sets the state of {maker or 'something computed'}", maker)
    else:
        target.filled = True


def _persistent(machine: _Machine, opcode: Opcode, storages: bool) -> None:
    reference = machine.pop() if opcode.name == "BINPERSID" else None
    machine.push(_OPAQUE)
    storage = _storage(reference) if storages else None
    if storage is None:
        machine.refuse(opcode, "refers to something outside the pickle that is not a tensor storage")
        return
    known = machine.storages.setdefault(storage.key, storage)
    if known.size != storage.size:
        machine.refuse(opcode, f"gives storage {storage.key!r} two sizes")


def _storage(reference: object) -> Storage | None:
    """Read torch's `("storage", type, key, location, items[, view])`."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        return None
    _, kind, key, location, items, *view = reference
    if not isinstance(kind, Global) or (kind.module, kind.name) not in STORAGES or any(view):
        return None
    if not isinstance(key, str) or not isinstance(location, str) or type(items) is not int or items < 0:
        return None
    width = ITEM_BYTES.get(kind.name)
    return Storage(key, None if width is None else items * width, items)


def _get(machine: _Machine, opcode: Opcode) -> None:
    index = opcode.argument
    if not isinstance(index, int) or index not in machine.memo:
        raise FormatError("a pickle that reads a memo entry that was never written", got=index)
    machine.push(machine.memo[index])


def _put(machine: _Machine, opcode: Opcode) -> None:
    index = len(machine.memo) if opcode.name == "MEMOIZE" else opcode.argument
    # Picklers number from 0 or 1 without holes; a hole would let a loader allocate what the file does not hold.
    if not isinstance(index, int) or not 0 <= index <= len(machine.memo) + 1:
        raise FormatError("a pickle memo with holes", got=index, expected=f"at most {len(machine.memo) + 1}")
    machine.memo[index] = machine.top()


def _mark(machine: _Machine, opcode: Opcode) -> None:
    machine.push(_Mark())
    machine.marks.append(len(machine.stack) - 1)


def _pop(machine: _Machine, opcode: Opcode) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack) - 1:
        machine.pop_to_mark()
    else:
        machine.pop()


def _set_item(machine: _Machine, opcode: Opcode) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(dict, opcode, (key, value))


def _set_items(machine: _Machine, opcode: Opcode) -> None:
    items = machine.pop_to_mark()
    if len(items) % 2:
        raise FormatError("a pickle mapping with a key that has no value")
    machine.fill(dict, opcode, items)


def _drop_to_mark(machine: _Machine, opcode: Opcode) -> None:
    machine.pop_to_mark()


def _dict(machine: _Machine, opcode: Opcode) -> None:
    machine.pop_to_mark()
    machine.push({})


def _frozen_set(machine: _Machine, opcode: Opcode) -> None:
    machine.pop_to_mark()
    machine.push(frozenset())


def _tuple(count: int) -> Callable[[_Machine, Opcode], None]:
    def step(machine: _Machine, opcode: Opcode) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return step


_STEPS: dict[str, Callable[[_Machine, Opcode], None]] = {
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _drop_to_mark,
    "DUP": lambda machine, _: machine.push(machine.top()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_object_ex,
    "OBJ": _object,
    "INST": _instance,
    "BUILD": _build,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _put,
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "LIST": lambda machine, _: machine.push(list(machine.pop_to_mark())),
    "DICT": _dict,
    "TUPLE": lambda machine, _: machine.push(machine.pop_to_mark()),
    "FROZENSET": _frozen_set,
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": lambda machine, opcode: machine.fill(list, opcode, (machine.pop(),)),
    "APPENDS": lambda machine, opcode: machine.fill(list, opcode, machine.pop_to_mark()),
    "ADDITEMS": lambda machine, opcode: machine.fill(set, opcode, machine.pop_to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
}
