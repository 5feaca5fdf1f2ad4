"""Plugins: found by entry point, loaded on first use, and checked before they are believed.

Plugins register with a `pluggy.PluginManager`; finwidth's own modules are found by their names
alone (`shelf`), and no plugin may take one of them. The loader differs from pluggy's own, which
stops the host at the first broken plugin, skips a second plugin of the same name and ignores
misspelt hooks. Here

* a distribution that cannot be imported, or whose hook raises or returns the wrong thing, is
  left out, with one warning and a record (`loaded_plugins`);
* a misspelt hook, or a name that two plugins both register, is a `PluginError`, because
  going on would mean to use less, or something else, than what was installed;
* the order is that of the distributions' names, so that it is the same everywhere.

A look-up loads the distributions, and of finwidth's own modules the one asked for.
Which distributions are loaded `distributions` says.
"""

import dataclasses
import importlib
import threading
from collections.abc import Iterable
from typing import Any

from .._basics.checks import check_flag, check_name
from .._basics.errors import PluginError, warn
from .distributions import VARIABLE
from .hooks import PACKAGES, hookimpl, hookspec
from .loader import Plugin, PluginRecord, Registry, built_in_names, built_in_record

__all__ = [
    "VARIABLE",
    "failed_plugins",
    "hookimpl",
    "hookspec",
    "loaded_plugins",
    "register",
    "registered",
    "reset",
    "shelves",
]


def registered(hook: str) -> dict[str, tuple[Any, PluginRecord]]:
    """Return what the plugins return from `hook`: name -> (item, its plugin), in loading order.

    finwidth's own items, which are not among them, are found by a `Shelf`.
    """
    with _lock:
        registry = _registry()
        items, clashes = registry.merge(hook)
        problems = [str(plugin.record.error) for plugin in registry.plugins if plugin.fatal]
        problems += [clash.message for clash in clashes]
    if problems:
        raise PluginError("; ".join(problems))
    return {name: (item, plugin.record) for name, (item, plugin) in items.items()}


def loaded_plugins(hooks: Iterable[str] = PACKAGES) -> list[PluginRecord]:
    """Return a record of every plugin, finwidth's own modules first, broken ones included.

    Unlike `registered` this never raises for what a plugin does: use it to find out.

    Parameters
    ----------
    hooks
        The hooks whose built-in modules are wanted, and whose names may clash; all by default.
    """
    hooks = tuple(hooks)
    with _lock:
        registry = _registry()
        clashes = [clash for hook in hooks for clash in registry.merge(hook)[1]]
        records = [
            built_in_record(PACKAGES[hook], name, hook)
            for hook in hooks
            for name in built_in_names(PACKAGES[hook])
        ]
        for plugin in registry.plugins:
            record = plugin.record
            if record.error is None:
                involved = [c.message for c in clashes if plugin in (c.first, c.second)]
                record = dataclasses.replace(record, error="; ".join(involved) or None)
            records.append(record)
        return records


def failed_plugins(hooks: Iterable[str] = PACKAGES) -> list[PluginRecord]:
    """Return the records of the plugins that are not used, each with its error."""
    return [record for record in loaded_plugins(hooks) if record.error is not None]


def register(plugin: Any, name: str | None = None, *, replace: bool = False) -> None:
    """Register a plugin from a running program or notebook.

    Parameters
    ----------
    plugin
        A module, class or object with functions marked with `finwidth.hookimpl`.
    name
        Its name in messages and records; by default its ``__name__``, or that of its class.
    replace
        Whether a plugin registered earlier under the same name is first taken out; running
        a notebook cell a second time needs this.

    Raises
    ------
    PluginError
        If the plugin has no hook, misspells one, returns something else than it should, or
        registers a name that is taken. It is then not registered.
    """
    if not isinstance(plugin == plugin, bool):  # an array or a table cannot be found again
        raise PluginError(
            "expected plugin = a module, class or object with functions marked with "
            f"finwidth.hookimpl, got an object of type {type(plugin).__name__}"
        )
    check_flag("replace", replace)
    if name is not None:
        check_name("name", name)
    name = str(name or getattr(plugin, "__name__", type(plugin).__name__))
    source = str(getattr(plugin, "__module__", None) or name)
    new = Plugin(PluginRecord(name, "", "program", source), plugin)
    with _lock:
        registry = _registry()
        old = [p for p in registry.plugins if p.key == new.key]
        if old and not replace:
            raise PluginError(
                f"expected the name of a new plugin, got {name!r} again (give replace=True to take "
                "the earlier one out)"
            )
        for earlier in old:
            registry.remove(earlier)
        registry.add(new)
        clashes = [clash for hook in new.items for clash in registry.merge(hook)[1]]
        error = new.record.error or next((c.message for c in clashes if c.second is new), None)
        if error:
            registry.remove(new)
            for earlier in old:
                registry.add(earlier)
            raise PluginError(error)


def shelves() -> dict[str, Any]:
    """Return the shelves that plugins may add to, by what they hold: "activations", …."""
    return {
        package.rpartition(".")[2].lstrip("_"): importlib.import_module(package).SHELF
        for package in PACKAGES.values()
    }


def reset() -> None:
    """Forget all plugins, so that the next use loads them anew; meant for tests."""
    global _current
    with _lock:
        _current = None


_lock = threading.RLock()
_current: Registry | None = None
_loading = False


def _registry() -> Registry:
    """Return the process's registry, loaded on the first call; then warn of what was left out."""
    global _current, _loading
    if _current is not None:
        return _current
    if _loading:
        raise PluginError("expected a plugin not to look up plugins while it loads, got a look-up")
    _loading = True
    try:
        registry = Registry()
        registry.load()
    finally:
        _loading = False
    _current = registry  # before the warnings, which may be turned into errors
    for plugin in registry.plugins:
        if plugin.record.error is not None and not plugin.fatal:
            warn(f"left out {plugin.record.error}", RuntimeWarning)
    return registry
