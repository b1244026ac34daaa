"""A pickle as plain values and inert records.

A pickle is a program for a small stack machine, and some of its instructions import things and call
them. Here Python's own machine is never started: `pickletools` takes the bytes apart into
instructions, and the machine below carries them out with the dangerous ones made inert. What a pickle
names becomes a `Global`, which holds the name and no more; what it wants called or made becomes a
`Record` of the request, if it comes from a package that models are made of, and is refused otherwise.
Only the `Rebuilders` that the reader of a format brings along are ever called: pure functions of values
that were already read.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nequip.errors import CheckpointError


@dataclass(frozen=True)
class Global:
    """The name of a function or a class in a pickle; nothing is looked up."""

    name: str  # module.qualname


@dataclass(eq=False, repr=False)
class Record:
    """What a pickle asks to be made: an object of some class, or what some function returns."""

    maker: str  # name of the class or the function
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    state: Any = None  # of the object, mostly its attributes
    items: list[Any] = field(default_factory=list[Any])  # of a list-like or set-like object
    entries: dict[Any, Any] = field(default_factory=dict[Any, Any])  # of a dict-like object

    def __repr__(self) -> str:
        return f"<a record of {self.maker}>"  # what it holds may be large, or hold it again


@dataclass(frozen=True)
class Rebuilders:
    """The pure functions that may stand in for what a pickle names, and what it may name beside that."""

    # what is made from a name and arguments
    made: Mapping[str, Callable[..., Any]]
    # what replaces a record once its state is known
    completed: Mapping[str, Callable[[Record], Any]]
    # what a persistent id, a reference out of the pickle, stands for
    persistent: Callable[[Any], Any]
    # packages, and single functions, that a record may come from
    recorded: frozenset[str]


def read_pickle(stream: io.BytesIO, rebuilders: Rebuilders) -> Any:
    """The value of the pickle at the position of `stream`, which is left behind its end.

    Raises:
        CheckpointError: for a pickle that is damaged or does what none of a model does.
    """
    machine = _Machine(rebuilders)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return machine.result()
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        # whatever a malformed program runs into: it is the file that is wrong
        raise CheckpointError(f"its pickle is damaged ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_STRINGS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE")
_BYTES = ("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_LITERALS = frozenset((*_NUMBERS, *_STRINGS, *_BYTES))
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "FROZENSET": lambda values: frozenset(hashable(value) for value in values),
    "DICT": lambda values: dict(pairs(values)),
}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_NOTHING = ("PROTO", "FRAME", "STOP")


class _Machine:
    """The stack, the memo, and one step for each instruction."""

    def __init__(self, rebuilders: Rebuilders):
        self.rebuilders = rebuilders
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(reversed([self.stack.pop() for _ in range(_TUPLES[name])])))
        elif name in _FROM_MARK:
            self.stack.append(_FROM_MARK[name](self._from_mark()))
        elif name in _PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name not in _NOTHING:
            step = _STEPS.get(name)
            if step is None:
                raise CheckpointError(f"its pickle has the instruction {name}, which no model needs")
            step(self, argument)

    def result(self) -> Any:
        """What is left on the stack."""
        (value,) = self.stack
        if value is _MARK:
            raise ValueError("nothing but a mark")
        return value

    def _from_mark(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        places = reversed(range(len(self.stack)))
        start = next((place for place in places if self.stack[place] is _MARK), None)
        if start is None:
            raise ValueError("no mark on the stack")
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def pop(self, _: Any) -> None:
        self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._from_mark()

    def dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self._extend([value])

    def appends(self, _: Any) -> None:
        self._extend(self._from_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        own = target.items if isinstance(target, Record) else target
        if not isinstance(own, list):
            raise TypeError("items for what is no list")
        own.extend(values)

    def add_items(self, _: Any) -> None:
        values, target = self._from_mark(), self.stack[-1]
        if isinstance(target, set):
            target.update(hashable(value) for value in values)
        else:
            self._extend(values)

    def set_item(self, _: Any) -> None:
        pair = [self.stack.pop(), self.stack.pop()]
        self._update(reversed(pair))

    def set_items(self, _: Any) -> None:
        self._update(self._from_mark())

    def _update(self, values: Iterable[Any]) -> None:
        target = self.stack[-1]
        own = target.entries if isinstance(target, Record) else target
        if not isinstance(own, dict):
            raise TypeError("entries for what is no dictionary")
        own.update(pairs(list(values)))

    def named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(f"{module}.{name}"))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.stack.append(Global(f"{module}.{name}"))

    def call(self, _: Any) -> None:
        args = self.stack.pop()
        self._make(self.stack.pop(), args)

    def call_with_keywords(self, _: Any) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        self._make(self.stack.pop(), args, kwargs)

    def make_object(self, _: Any) -> None:
        maker, *args = self._from_mark()
        self._make(maker, tuple(args))

    def make_instance(self, argument: str) -> None:
        args = self._from_mark()
        self.named(argument)
        self._make(self.stack.pop(), tuple(args))

    def _make(self, maker: Any, args: Any, kwargs: Any = None) -> None:
        if not isinstance(maker, Global) or not isinstance(args, tuple):
            raise TypeError("a call of what is no name")
        made = self.rebuilders.made.get(maker.name)
        if made is not None and not kwargs:
            self.stack.append(made(*args))
        elif self.rebuilders.recorded & {maker.name, maker.name.partition(".")[0]}:
            self.stack.append(Record(maker.name, args, dict(kwargs or {})))
        else:
            raise CheckpointError(
                f"its pickle asks to call {maker.name}, which no model needs (it was not called)"
            )

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, dict):
            return  # attributes beside the entries, such as the versions in a state dict
        if not isinstance(target, Record):
            raise TypeError("attributes for what has none")
        target.state = state
        completed = self.rebuilders.completed.get(target.maker)
        if completed is not None:
            value = completed(target)
            self.stack[-1] = value
            self.memo = {key: value if old is target else old for key, old in self.memo.items()}

    def persistent(self, _: Any) -> None:
        self.stack.append(self.rebuilders.persistent(self.stack.pop()))


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    "MEMOIZE": _Machine.memoize,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "OBJ": _Machine.make_object,
    "INST": _Machine.make_instance,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    """Keys and values from a list in which they take turns."""
    return [(hashable(key), value) for key, value in zip(values[::2], values[1::2], strict=True)]


def hashable(value: Any) -> Any:
    """A key of a dictionary; a tuple holds plain values only, so that hashing it cannot run deep."""
    parts = value if isinstance(value, tuple) else (value,)
    if all(part is None or isinstance(part, (str, bytes, int, float, Global, Record)) for part in parts):
        return value
    raise TypeError(f"a key that is a {type(value).__name__}")
