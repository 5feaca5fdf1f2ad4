"""What a function or a class of the user's does, as a digest of its code.

For things that have no values to be told apart by, such as a sampler's kernel. Of the code and
what it refers to, as far as that is of the same package; of others the name. Another version of
Python may compile the same text to other code: what was stored is then not found, never mistaken.
"""

import dataclasses
import functools
import hashlib
import types
from typing import Any

import numpy as np

__all__ = ["code_digest"]


def code_digest(thing: Any) -> str:
    """Return a digest of a function, class or callable object."""
    walk = _Walk(_home(thing))
    walk.add(thing)
    return walk.total.hexdigest()[:16]


def _home(thing: Any) -> str:
    """Return the package that something is of."""
    inner = thing.func if isinstance(thing, functools.partial) else thing
    module = getattr(inner, "__module__", None) or type(inner).__module__
    return str(module).partition(".")[0]


class _Walk:
    """One walk through what `thing` is made of; each part is looked at once."""

    def __init__(self, home: str) -> None:
        self.total = hashlib.sha256()
        self._home = home
        self._seen: dict[int, Any] = {}  # kept, so that no other object gets the same id

    def _say(self, text: str) -> None:
        self.total.update(f"{text};".encode())

    def add(self, part: Any) -> None:
        if part is None or isinstance(part, (bool, int, float, complex, str, bytes)):
            self._say(f"{type(part).__name__} {part!r}")
            return
        self._say(type(part).__qualname__)
        if id(part) in self._seen:
            return
        self._seen[id(part)] = part
        if isinstance(part, types.CodeType):
            self.total.update(part.co_code)
            self.add((part.co_names, part.co_varnames, part.co_consts))
        elif isinstance(part, types.FunctionType):
            self._function(part)
        elif isinstance(part, type):
            self._class(part)
        elif isinstance(part, functools.partial):
            self.add((part.func, part.args, part.keywords))
        elif isinstance(part, types.MethodType):
            self.add((part.__func__, part.__self__))
        elif isinstance(part, (staticmethod, classmethod)):
            self.add(part.__func__)
        elif isinstance(part, property):
            self.add((part.fget, part.fset))
        elif isinstance(part, (tuple, list)):
            for one in part:
                self.add(one)
        elif isinstance(part, dict):
            for key in sorted(part, key=repr):
                self.add((key, part[key]))
        elif isinstance(part, (set, frozenset)):
            self._say(str(sorted(map(repr, part))))
        elif isinstance(part, types.ModuleType):
            self._say(part.__name__)
        elif hasattr(part, "__array__"):
            array = np.asarray(part)
            self._say(f"{array.dtype} {array.shape}")
            self.total.update(array.tobytes())
        elif _home(part) == self._home:
            self._object(part)

    def _function(self, function: types.FunctionType) -> None:
        self._say(f"{function.__module__}.{function.__qualname__}")
        if _home(function) != self._home:
            return
        self.add((function.__code__, function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # empty
                self._say("empty")
        for name in _names(function.__code__):
            if name in function.__globals__:
                self.add((name, function.__globals__[name]))

    def _class(self, kind: type) -> None:
        self._say(f"{kind.__module__}.{kind.__qualname__}")
        if _home(kind) != self._home:
            return
        self.add(kind.__bases__)
        for name, member in sorted(vars(kind).items()):
            if name not in ("__dict__", "__weakref__", "__doc__", "__firstlineno__"):
                self.add((name, member))

    def _object(self, part: Any) -> None:
        self.add(type(part))
        if dataclasses.is_dataclass(part) or hasattr(part, "__dict__"):
            self.add(vars(part))


def _names(code: types.CodeType) -> list[str]:
    """Return the names that code refers to, those of functions inside it included."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return sorted({*code.co_names, *(name for one in inner for name in _names(one))})
