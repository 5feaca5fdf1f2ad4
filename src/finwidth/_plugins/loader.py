"""Loading plugins: what was offered, what its hooks returned, and what went wrong."""

import dataclasses
import difflib
import importlib
import importlib.metadata
from typing import Any, Literal

import pluggy

from .._basics.errors import PluginError
from . import hooks as hook_specifications, shelf
from .distributions import selected_entry_points
from .hooks import PROJECT

__all__ = ["BUILT_IN", "ITEM_TYPES", "Clash", "Plugin", "PluginRecord", "Registry"]

# What each hook collects: a list of items of this type, which must have a `name`. Public module
# and class; imported when a plugin first uses the hook.
ITEM_TYPES = {
    "finwidth_register_activations": ("finwidth", "Activation"),
    "finwidth_register_theories": ("finwidth.theories", "Theory"),
}

# The package whose modules are the built-in plugins of each hook.
BUILT_IN = {
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
    first: Plugin
    second: Plugin


class Registry:
    """One plugin manager and the plugins that were offered to it."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hook_specifications)
        self.built_in: dict[str, list[Plugin]] = {}  # by hook, those that were asked for
        self.others: list[Plugin] = []

    @property
    def plugins(self) -> list[Plugin]:
        """All plugins, finwidth's own first."""
        own = [plugin for hook in BUILT_IN for plugin in self.built_in.get(hook, ())]
        return own + self.others

    def load_built_in(self, hook: str) -> None:
        """Add the built-in plugins of one hook, if they are not there."""
        if hook in self.built_in:
            return
        found, version = [], importlib.metadata.version(PROJECT)
        for module in shelf.modules(BUILT_IN[hook]):
            record = PluginRecord(PROJECT, version, "built-in", module.__name__)
            plugin = Plugin(record, module, module.__name__)
            self.check(plugin)
            found.append(plugin)
        self.built_in[hook] = found

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
                self.others.append(plugin)
            else:
                self.add(plugin)

    def add(self, plugin: Plugin) -> None:
        """Add a plugin that is not built in, and check it."""
        self.others.append(plugin)
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
            close = difflib.get_close_matches(misspelt[0], ITEM_TYPES, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            wanted = f"expected hooks out of {sorted(ITEM_TYPES)}"
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
        self.others.remove(plugin)
        self._unregister(plugin)

    def merge(self, hook: str) -> tuple[dict[str, tuple[Any, Plugin]], list[Clash]]:
        """Put together what the plugins return from one hook, and list names used twice."""
        self.load_built_in(hook)
        items: dict[str, tuple[Any, Plugin]] = {}
        clashes = []
        for plugin in self.plugins:
            for item in plugin.items.get(hook, ()):
                if item.name not in items:
                    items[item.name] = (item, plugin)
                    continue
                first = items[item.name][1]
                kind = ITEM_TYPES[hook][1].lower()
                message = (
                    f"expected every {kind} name to be registered once, got {item.name!r} from "
                    f"{first.record} and from {plugin.record}"
                )
                clashes.append(Clash(message, first, plugin))
        return items, clashes

    def _call(self, hook: str, plugin: Plugin) -> list[Any]:
        """Call one plugin's implementation, so that each plugin answers for itself alone."""
        module, class_name = ITEM_TYPES[hook]
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

    def _unregister(self, plugin: Plugin) -> None:
        if self.manager.get_plugin(plugin.key) is not None:
            self.manager.unregister(name=plugin.key)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
