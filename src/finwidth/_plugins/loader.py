"""Loading plugins: what was offered, what its hooks returned, and what went wrong."""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from typing import Any, Literal

import pluggy

from . import hooks as hook_specifications
from .distributions import selected_entry_points
from .hooks import NO_ITEMS, PACKAGES, PROJECT

__all__ = [
    "Clash",
    "Plugin",
    "PluginRecord",
    "Registry",
    "built_in_names",
    "built_in_record",
]


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


@functools.cache
def built_in_names(package: str) -> tuple[str, ...]:
    """Return the sorted names of the modules of `package` that users name; none is imported.

    A module whose name starts with an underscore is not one of them, nor are `NO_ITEMS`.
    """
    spec = importlib.util.find_spec(package)
    path = None if spec is None else spec.submodule_search_locations
    found = (info.name for info in pkgutil.iter_modules(path))
    others = NO_ITEMS.get(package, frozenset())
    return tuple(sorted(name for name in found if name[0] != "_" and name not in others))


def built_in_record(package: str, name: str, hook: str) -> PluginRecord:
    """Return the record of one of finwidth's own modules."""
    version = importlib.metadata.version(PROJECT)
    return PluginRecord(PROJECT, version, "built-in", f"{package}.{name}", (hook,) if hook else ())


@dataclasses.dataclass(eq=False)
class Plugin:
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
class Clash:
    message: str
    first: Plugin | None  # None: finwidth itself
    second: Plugin


class Registry:
    """One plugin manager and the plugins that were offered to it, finwidth's own modules aside."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hook_specifications)
        self.plugins: list[Plugin] = []

    def load(self) -> None:
        """Add the distributions that the environment selects."""
        for entry in selected_entry_points():
            name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")
            plugin = Plugin(
                PluginRecord(name, version, "distribution", entry.value), entry_point=entry.name
            )
            try:
                plugin.obj = entry.load()
            except (Exception, SystemExit) as error:
                plugin.fail(f"cannot be imported: {_describe(error)}")
                self.plugins.append(plugin)
            else:
                self.add(plugin)

    def add(self, plugin: Plugin) -> None:
        """Add a plugin and check it."""
        self.plugins.append(plugin)
        self.check(plugin)

    def check(self, plugin: Plugin) -> None:
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
            close = difflib.get_close_matches(misspelt[0], PACKAGES, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            wanted = f"expected hooks out of {sorted(PACKAGES)}"
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

    def remove(self, plugin: Plugin) -> None:
        """Take a plugin out."""
        self.plugins.remove(plugin)
        self._unregister(plugin)

    def merge(self, hook: str) -> tuple[dict[str, tuple[Any, Plugin]], list[Clash]]:
        """Put together what the plugins return from one hook, and list names used twice."""
        package = PACKAGES[hook]
        own = built_in_names(package)
        items: dict[str, tuple[Any, Plugin]] = {}
        clashes = []
        for plugin in self.plugins:
            for item in plugin.items.get(hook, ()):
                first = items[item.name][1] if item.name in items else None
                if first is None and item.name not in own:
                    items[item.name] = (item, plugin)
                    continue
                earlier = (
                    built_in_record(package, item.name, hook) if first is None else first.record
                )
                message = (
                    f"expected every {_shelf(hook).kind} name to be registered once, got "
                    f"{item.name!r} from {earlier} and from {plugin.record}"
                )
                clashes.append(Clash(message, first, plugin))
        return items, clashes

    def _call(self, hook: str, plugin: Plugin) -> list[Any]:
        """Call one plugin's implementation, so that each plugin answers for itself alone."""
        shelf = _shelf(hook)
        return [
            item
            for implementation in getattr(self.manager.hook, hook).get_hookimpls()
            if implementation.plugin is plugin.obj
            for item in shelf.accept(implementation.function())
        ]

    def _unregister(self, plugin: Plugin) -> None:
        if self.manager.get_plugin(plugin.key) is not None:
            self.manager.unregister(name=plugin.key)


def _shelf(hook: str) -> Any:
    """Return the shelf of a hook's items; its package is imported when a plugin first uses it."""
    return importlib.import_module(PACKAGES[hook]).SHELF


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
