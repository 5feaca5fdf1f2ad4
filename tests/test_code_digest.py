"""Digests of code: the same for the same code, another for whatever changes what it does."""

import functools
import types

import numpy as np
import pytest

from finwidth._basics.code_digest import code_digest

BASE = """
import numpy as np
LIMIT = 3
def helper(x):
    return x + 1
class Base:
    rate = 0.5
    def step(self, x):
        return helper(x)
class Kernel(Base):
    def __init__(self, model, size=2):
        self.model = model
    def sample(self, x):
        return [np.sin(self.step(y)) * LIMIT for y in range(x)]
def make(factor):
    def kernel(model, *, size=2):
        return Kernel(model, size * factor)
    return kernel
kernel = make(2)
"""
CHANGES = {
    "a constant": ("x + 1", "x + 2"),
    "a type": ("x + 1", "x + 1.0"),
    "an operation": ("x + 1", "x - 1"),
    "a function of another module": ("np.sin", "np.cos"),
    "a global": ("LIMIT = 3", "LIMIT = 4"),
    "a default": ("*, size=2", "*, size=3"),
    "a default of the class": ("model, size=2", "model, size=3"),
    "a class attribute": ("rate = 0.5", "rate = 0.6"),
    "a closure": ("make(2)", "make(3)"),
    "a base": ("Kernel(Base)", "Kernel(Base, dict)"),
}


def module(text):
    """Execute a module's text anew."""
    made = types.ModuleType("someones")
    exec(compile(text, "someones.py", "exec"), made.__dict__)
    return made


@pytest.mark.parametrize("name", ["kernel", "Kernel"])
def test_the_same_code_has_the_same_digest(name):
    one, other = (getattr(module(BASE), name) for _ in range(2))
    assert one is not other
    assert code_digest(one) == code_digest(other)
    shifted = "# another line\n\n" + BASE.replace("def helper", "# a comment\ndef helper")
    assert code_digest(getattr(module(shifted), name)) == code_digest(one)


@pytest.mark.parametrize("change", CHANGES)
def test_other_code_has_another_digest(change):
    changed = BASE.replace(*CHANGES[change])
    assert changed != BASE
    assert code_digest(module(changed).kernel) != code_digest(module(BASE).kernel)


def test_partial_and_callable_objects():
    made = module(BASE)
    kernel = made.Kernel
    ones, twos = functools.partial(kernel, size=1), functools.partial(kernel, size=2)
    assert code_digest(ones) != code_digest(twos)
    assert code_digest(made.Kernel(np.ones(2))) != code_digest(made.Kernel(np.zeros(2)))
    assert code_digest(made.Kernel(np.ones(2))) == code_digest(made.Kernel(np.ones(2)))
