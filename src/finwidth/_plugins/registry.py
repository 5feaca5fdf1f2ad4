"""Plugins: found by entry point, loaded on first use, and checked before they are believed.

Built-ins and third parties register with one `pluggy.PluginManager`. The loader differs from
pluggy's own, which stops the host at the first broken plugin, skips a second plugin of the
same name and ignores misspelt hooks. Here

* a distribution that cannot be imported, or whose hook raises or returns the wrong thing, is
  left out, with one warning and a record (`loaded_plugins`);
* a misspelt hook, or a name that two plugins both register, is a `PluginError`, because
  going on would mean to use less, or something else, than what was installed;
* the order is that of the distributions' names, so that it is the same everywhere.

A look-up loads the distributions, and of finwidth's own modules those of its own kind alone: an
activation is found without importing the theories.

Which distributions are loaded `distributions` says.
"""

import dataclasses
import difflib
import importlib
import importlib.metadata
import threading
from collections.abc import Iterable
from typing import Any, Literal

import pluggy

from .._basics.checks import check_flag, check_name
from .._basics.errors import PluginError, warn
from . import hooks as hook_specifications, shelf
from .distributions import VARIABLE, selected_entry_points
from .hooks import PROJECT, hookimpl, hookspec

__all__ = [
    "PluginRecord",
    "VARIABLE",
    "failed_plugins",
    "hookimpl",
    "hookspec",
    "loaded_plugins",
    "register",
    "registered",
    "reset",
]

# What each hook collects: a list of items of this type, which must have a `name`. Public module
# and class; imported when a plugin first uses the hook.
_ITEM_TYPES = {
    "finwidth_register_activations": ("finwidth", "Activation"),
    "finwidth_register_theories": ("finwidth.theories", "Theory"),
}

# The package whose modules are the built-in plugins of each hook.
_BUILT_IN = {
    "finwidth_register_activations": "finwidth.activations",
    "finwidth_register_theories": "finwidth.theories",
}


@dataclasses.dataclass(frozen=True)
class PluginRecord:
    """What is known about one plugin.

    Parameters
    ----------
    name
        Of the distribution, or the name given to `register`.
    version
        Of the distribution; empty for a plugin of the running program.
    origin
        Where it comes from.
    source
        ``module:object`` of the entry point, or the module.
    hooks
        The hooks it implements.
    error
        Why it is not used, or None.
    """

    name: str
    version: str
    origin: Literal["built-in", "distribution", "program"]
    source: str
    hooks: tuple[str, ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        kind = {"built-in": "finwidth itself", "distribution": f"distribution {self.name!r}"}
        return f"{kind.get(self.origin, f'plugin {self.name!r} of this program')} ({self.source})"


def registered(hook: str) -> dict[str, tuple[Any, PluginRecord]]:
    """Return what all plugins return from `hook`: name -> (item, its plugin), in loading order."""
    with _lock:
        registry = _registry()
        items, clashes = registry.merge(hook)
        problems = [str(plugin.record.error) for plugin in registry.plugins if plugin.fatal]
        problems += [clash.message for clash in clashes]
    if problems:
        raise PluginError("; ".join(problems))
    return {name: (item, plugin.record) for name, (item, plugin) in items.items()}


def loaded_plugins(hooks: Iterable[str] = _ITEM_TYPES) -> list[PluginRecord]:
    """Return a record of every plugin, built-in ones first, broken ones included.

    Unlike `registered` this never raises for what a plugin does: use it to find out.

    Parameters
    ----------
    hooks
        The hooks whose built-in plugins are wanted, and whose names may clash; all by default.
    """
    with _lock:
        registry = _registry()
        clashes = [clash for hook in hooks for clash in registry.merge(hook)[1]]
        records = []
        for plugin in registry.plugins:
            record = plugin.record
            if record.error is None and record.origin != "built-in":
                involved = [c.message for c in clashes if plugin in (c.first, c.second)]
                record = dataclasses.replace(record, error="; ".join(involved) or None)
            records.append(record)
        return records


def failed_plugins(hooks: Iterable[str] = _ITEM_TYPES) -> list[PluginRecord]:
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
    new = _Plugin(PluginRecord(name, "", "program", source), plugin)
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


def reset() -> None:
    """Forget all plugins, so that the next use loads them anew; meant for tests."""
    global _current
    with _lock:
        _current = None


# --- the registry ----------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class _Plugin:
    """A plugin, what its hooks returned, and whether its error concerns everybody."""

    record: PluginRecord
    obj: Any = None
    entry_point: str = ""
    items: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    fatal: bool = False

    @property
    def key(self) -> str:
        """Unique name for pluggy."""
        return ":".join((self.record.origin, self.record.name, self.entry_point))

    def fail(self, error: str, fatal: bool = False) -> None:
        self.record = dataclasses.replace(self.record, error=f"{self.record}: {error}")
        self.fatal = fatal


@dataclasses.dataclass(frozen=True)
class _Clash:
    message: str
    first: _Plugin
    second: _Plugin


class _Registry:
    """One plugin manager and the plugins that were offered to it."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hook_specifications)
        self.built_in: dict[str, list[_Plugin]] = {}  # by hook, those that were asked for
        self.others: list[_Plugin] = []

    @property
    def plugins(self) -> list[_Plugin]:
        """All plugins, finwidth's own first."""
        own = [plugin for hook in _BUILT_IN for plugin in self.built_in.get(hook, ())]
        return own + self.others

    def load_built_in(self, hook: str) -> None:
        """Add the built-in plugins of one hook, if they are not there."""
        if hook in self.built_in:
            return
        found, version = [], importlib.metadata.version(PROJECT)
        for module in shelf.modules(_BUILT_IN[hook]):
            record = PluginRecord(PROJECT, version, "built-in", module.__name__)
            plugin = _Plugin(record, module, module.__name__)
            self.check(plugin)
            found.append(plugin)
        self.built_in[hook] = found

    def load(self) -> None:
        """Add the distributions that the environment selects."""
        for entry in selected_entry_points():
            name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")
            plugin = _Plugin(
                PluginRecord(name, version, "distribution", entry.value), entry_point=entry.name
            )
            try:
                plugin.obj = entry.load()
            except (Exception, SystemExit) as error:
                plugin.fail(f"cannot be imported: {_describe(error)}")
                self.others.append(plugin)
            else:
                self.add(plugin)

    def add(self, plugin: _Plugin) -> None:
        """Add a plugin that is not built in, and check it."""
        self.others.append(plugin)
        self.check(plugin)

    def check(self, plugin: _Plugin) -> None:
        """Register a plugin and call its hooks; what goes wrong is noted in its record."""
        try:
            self.manager.register(plugin.obj, name=plugin.key)
        except Exception as error:  # arguments that the hook does not have, registered before
            self._unregister(plugin)
            plugin.fail(f"cannot be registered: {_describe(error)}")
            return
        callers = self.manager.get_hookcallers(plugin.obj) or []
        hooks = sorted(caller.name for caller in callers)
        plugin.record = dataclasses.replace(plugin.record, hooks=tuple(hooks))
        # what pluggy's check_pending() finds, for this plugin alone
        misspelt = sorted(caller.name for caller in callers if not caller.has_spec())
        if misspelt:
            close = difflib.get_close_matches(misspelt[0], _ITEM_TYPES, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            wanted = f"expected hooks out of {sorted(_ITEM_TYPES)}"
            plugin.fail(f"{wanted}, got {', '.join(misspelt)}{hint}", fatal=True)
        elif not hooks:
            plugin.fail("expected at least one function marked with finwidth.hookimpl, got none")
        for hook in hooks if plugin.record.error is None else ():
            try:
                plugin.items[hook] = self._call(hook, plugin)
            except Exception as error:
                plugin.fail(f"hook {hook}: {_describe(error)}")
                break
        if plugin.record.error is not None:
            plugin.items.clear()
            self._unregister(plugin)

    def remove(self, plugin: _Plugin) -> None:
        """Take a plugin out."""
        self.others.remove(plugin)
        self._unregister(plugin)

    def merge(self, hook: str) -> tuple[dict[str, tuple[Any, _Plugin]], list[_Clash]]:
        """Put together what the plugins return from one hook, and list names used twice."""
        self.load_built_in(hook)
        items: dict[str, tuple[Any, _Plugin]] = {}
        clashes = []
        for plugin in self.plugins:
            for item in plugin.items.get(hook, ()):
                if item.name not in items:
                    items[item.name] = (item, plugin)
                    continue
                first = items[item.name][1]
                kind = _ITEM_TYPES[hook][1].lower()
                message = (
                    f"expected every {kind} name to be registered once, got {item.name!r} from "
                    f"{first.record} and from {plugin.record}"
                )
                clashes.append(_Clash(message, first, plugin))
        return items, clashes

    def _call(self, hook: str, plugin: _Plugin) -> list[Any]:
        """Call one plugin's implementation, so that each plugin answers for itself alone."""
        module, class_name = _ITEM_TYPES[hook]
        kind = getattr(importlib.import_module(module), class_name)
        expected = f"expected a list of {module}.{class_name}"
        items: list[Any] = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin.obj:
                continue
            result = implementation.function()
            if not isinstance(result, list):
                raise PluginError(f"{expected}, got {result!r}")
            for item in result:
                if not isinstance(item, kind):
                    raise PluginError(f"{expected}, got {item!r} in it")
            items += result
        return items

    def _unregister(self, plugin: _Plugin) -> None:
        if self.manager.get_plugin(plugin.key) is not None:
            self.manager.unregister(name=plugin.key)


_lock = threading.RLock()
_current: _Registry | None = None
_loading = False


def _registry() -> _Registry:
    """Return the process's registry, loaded on the first call; then warn of what was left out."""
    global _current, _loading
    if _current is not None:
        return _current
    if _loading:
        raise PluginError("expected a plugin not to look up plugins while it loads, got a look-up")
    _loading = True
    try:
        registry = _Registry()
        registry.load()
    finally:
        _loading = False
    _current = registry  # before the warnings, which may be turned into errors
    for plugin in registry.plugins:
        if plugin.record.error is not None and not plugin.fatal:
            warn(f"left out {plugin.record.error}", RuntimeWarning)
    return registry


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
