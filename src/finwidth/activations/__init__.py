"""The built-in activations: one module each, found by name and registered like any plugin.

To add one, add a module here with a `finwidth.hookimpl` function
``finwidth_register_activations``; nothing else needs to change. Modules whose names start
with an underscore are left alone.
"""

__all__ = []
