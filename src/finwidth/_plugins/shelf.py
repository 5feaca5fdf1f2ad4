"""Shelves: folders whose modules are found by name, and what plugins put beside them."""

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .._basics.arrays import shown
from .._basics.checks import check_choice
from .._basics.errors import InputError, PluginError
from . import registry
from .loader import PluginRecord, built_in_names, built_in_record

__all__ = ["NOT_INSTALLED", "Shelf"]

NOT_INSTALLED = "is its plugin installed? 'finwidth plugins list' says"


class Shelf[T]:
    """Items of one kind that users ask for by name: one module of a package each, or a plugin's.

    A module whose name has no leading underscore holds the item of that name. Names are listed
    without importing any; the module asked for is imported when it is asked for, once.

    Parameters
    ----------
    package
        The package. Where plugins may add items, its attribute ``SHELF`` is this object.
    kind
        What an item is called in messages, "activation".
    item_type
        Class of the items, with which `isinstance` works.
    public
        How users write that class, "finwidth.Activation".
    attribute
        What a module names its item; without it the module implements `hook`, as a plugin does.
    hook
        The hook through which plugins add items, if they may.
    check
        Raises PluginError for an item that breaks its protocol.
    aka
        What some items are called elsewhere, in lower case: a message then names the item.
    """

    def __init__(
        self,
        package: str,
        kind: str,
        item_type: Any,
        public: str,
        *,
        attribute: str = "",
        hook: str = "",
        check: Callable[[T], None] | None = None,
        aka: Mapping[str, str] | None = None,
    ) -> None:
        self.package, self.kind, self.hook = package, kind, hook
        self._item_type, self._public, self._attribute = item_type, public, attribute
        self._check, self._aka = check, aka or {}
        self._loaded: dict[str, T] = {}
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """Return the sorted names of all items; the first call loads the plugins.

        Raises
        ------
        PluginError
            If two plugins register the same name, or a plugin misspells a hook.
        """
        return sorted([*built_in_names(self.package), *self._added()])

    def get(self, name: Any) -> T:
        """Return the item of that name.

        Raises
        ------
        InputError
            If there is none; the message suggests the closest one, and names the plugins that are
            installed but could not be used.
        """
        added, own = self._added(), built_in_names(self.package)
        try:
            name = check_choice(self.kind, name, [*own, *added])
        except InputError as error:
            failed = registry.failed_plugins([self.hook]) if self.hook else []
            reasons = "; ".join(str(record.error) for record in failed)
            said = f"{error}; left out: {reasons}" if reasons else str(error)
            other = self._aka.get(name.lower()) if isinstance(name, str) else None
            if other is not None:
                said += f" (here it is called {other!r})"
            elif self.hook and isinstance(name, str) and "did you mean" not in said:
                said += f" ({NOT_INSTALLED})"
            raise InputError(said) from None
        return self._built_in(name) if name in own else added[name][0]

    def items(self) -> dict[str, T]:
        """Return all items by name, sorted; imports every module of the package."""
        return {name: self.get(name) for name in self.names()}

    def sources(self) -> dict[str, PluginRecord]:
        """Return, by name, the record of the plugin that an item comes from; imports nothing."""
        found = {
            name: built_in_record(self.package, name, self.hook)
            for name in built_in_names(self.package)
        }
        found |= {name: record for name, (_, record) in self._added().items()}
        return dict(sorted(found.items()))

    def accept(self, items: Any) -> list[T]:
        """Return what a plugin's hook returned, or raise PluginError."""
        expected = f"expected a list of {self._public}"
        if not isinstance(items, list):
            raise PluginError(f"{expected}, got {shown(items)}")
        for item in items:
            if not isinstance(item, self._item_type):
                raise PluginError(f"{expected}, got {shown(item)} in it")
            name = getattr(item, "name", None)
            if not isinstance(name, str) or not name:
                raise PluginError(
                    f"{expected}, each with a non-empty name, got name = {shown(name)} of "
                    f"{type(item).__name__}"
                )
            if self._check is not None:
                self._check(item)
        return items

    def _added(self) -> dict[str, tuple[T, PluginRecord]]:
        return registry.registered(self.hook) if self.hook else {}

    def _built_in(self, name: str) -> T:
        """Return the item of a module, the same object every time."""
        with self._lock:
            if name not in self._loaded:
                module = importlib.import_module(f"{self.package}.{name}")
                if self._attribute:
                    items = [getattr(module, self._attribute)]
                else:
                    items = self.accept(getattr(module, self.hook)())
                if len(items) != 1 or getattr(items[0], "name", name) != name:
                    raise PluginError(
                        f"expected module {module.__name__} to hold one {self.kind}, {name!r}, "
                        f"got {shown(items)}"
                    )
                self._loaded[name] = items[0]
            return self._loaded[name]
