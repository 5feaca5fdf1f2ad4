"""Plugins are found, isolated and reported: with distributions written to a directory."""

import importlib
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw
from finwidth._plugins import hooks, registry as _plugins
from finwidth.activations import activation_sources

BUILT_IN = {"erf", "identity", "relu", "tanh"}

GOOD = """
    import jax.numpy as jnp
    import finwidth as fw

    @fw.hookimpl
    def finwidth_register_activations():
        return [fw.Activation("{name}", jnp.sin, parity="odd")]
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution with one entry point; only those written are seen as plugins."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv(_plugins.VARIABLE, raising=False)
    installed: list[str] = []

    def write(distribution: str, code: str, entry_point: str = "main") -> None:
        module = distribution.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text(f"[finwidth]\n{entry_point} = {module}\n")
        installed.append(distribution)
        monkeypatch.setenv(_plugins.VARIABLE, ",".join(installed))
        _plugins.reset()

    yield write
    for distribution in installed:
        sys.modules.pop(distribution.replace("-", "_"), None)
    _plugins.reset()


@pytest.fixture
def no_distributions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(_plugins.VARIABLE, "")
    _plugins.reset()
    yield
    _plugins.reset()


def record_of(name: str) -> _plugins.PluginRecord:
    (record,) = [r for r in _plugins.loaded_plugins() if r.name == name]
    return record


def test_every_built_in_has_its_module(no_distributions: None) -> None:
    assert set(fw.list_activations()) == BUILT_IN
    sources = {name: record.source for name, record in activation_sources().items()}
    assert sources == {name: f"finwidth.activations.{name}" for name in BUILT_IN}
    assert all(r.error is None and r.version == fw.__version__ for r in _plugins.loaded_plugins())


@pytest.mark.parametrize("package", ["activations", "theories", "samplers", "datasets"])
def test_a_shelf_s_modules_hold_what_they_are_named_after(package: str) -> None:
    shelf = importlib.import_module(f"finwidth.{package}").SHELF
    folder = Path(fw.__file__).parent / package
    expected = {
        p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    built_in = {name for name in expected if not name.startswith("_")}
    assert built_in <= set(shelf.names())
    for name in built_in:
        item = shelf.get(name)
        assert getattr(item, "name", name) == name
        assert shelf.get(name) is item


@pytest.mark.parametrize("package", ["activations", "theories", "samplers", "datasets"])
@pytest.mark.parametrize("name", ["nestde", "", None, 3, ["erf"], "x" * 500])
def test_what_is_on_no_shelf_is_refused_in_one_line(package: str, name: object) -> None:
    shelf = importlib.import_module(f"finwidth.{package}").SHELF
    with pytest.raises(fw.InputError, match=f"^expected {shelf.kind} = one of .*, got ") as caught:
        shelf.get(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    if package == "theories" and name == "nestde":
        assert str(caught.value).endswith("got 'nestde' (did you mean 'nested'?)")


def test_only_the_module_asked_for_is_imported() -> None:
    code = (
        "import sys, finwidth as fw; from finwidth import samplers, theories, datasets\n"
        "fw.get_activation('erf'), theories.SHELF.get('wishart'), samplers.SHELF.get('hmc')\n"
        "theories.SHELF.names(), datasets.SHELF.names()\n"
        "for folder in ('activations', 'theories', 'samplers', 'datasets'):\n"
        "    start = f'finwidth.{folder}.'\n"
        "    print(sorted(n for n in sys.modules if n.startswith(start) and '._' not in n))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {_plugins.VARIABLE: ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "['finwidth.activations.erf']",
        "['finwidth.theories.wishart']",
        "['finwidth.samplers.hmc']",
        "[]",
    ]


def test_a_theory_without_a_name_is_refused(no_distributions: None) -> None:
    from finwidth.theories.nested import Nested

    class Nameless(Nested):
        name = ""

    class Plugin:
        @fw.hookimpl
        def finwidth_register_theories(self) -> list:
            return [Nameless()]

    expected = "each with a non-empty name, got name = '' of Nameless"
    with pytest.raises(fw.PluginError, match=expected):
        fw.register_plugin(Plugin(), "nameless")


def test_every_hook_is_documented_and_collected() -> None:
    names = {name for name in vars(hooks) if name.startswith("finwidth_")}
    assert names == set(hooks.PACKAGES)
    assert {shelf.hook for shelf in _plugins.shelves().values()} == names
    assert all(getattr(hooks, name).__doc__ for name in names)


def test_an_installed_plugin_needs_no_import(install: Install) -> None:
    install("acme-waves", GOOD.format(name="sine"))
    assert set(fw.list_activations()) == BUILT_IN | {"sine"}
    assert float(fw.get_activation("sine").fn(jnp.asarray(0.0))) == 0.0
    record = record_of("acme-waves")
    assert (record.version, record.origin) == ("1.2", "distribution")
    assert record.hooks == ("finwidth_register_activations",)
    assert record.error is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('no such library')", "OSError: no such library"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        (
            "import finwidth as fw\n@fw.hookimpl\n"
            "def finwidth_register_activations(): raise ValueError('boom')",
            "boom",
        ),
        (
            "import finwidth as fw\n@fw.hookimpl\n"
            "def finwidth_register_activations(): return fw.Activation('x', abs)",
            "expected a list of finwidth.Activation",
        ),
        (
            "import finwidth as fw\n@fw.hookimpl\n"
            "def finwidth_register_activations(): return ['erf']",
            "expected a list of finwidth.Activation, got 'erf'",
        ),
        (
            "import finwidth as fw\n@fw.hookimpl\n"
            "def finwidth_register_activations(manager): return []",
            "cannot be registered",
        ),
        ("def finwidth_register_activations(): return []", "marked with finwidth.hookimpl"),
        ("import finwidth as fw\nfw.list_activations()", "while it loads"),
    ],
    ids=[
        "raises-on-import",
        "missing-dependency",
        "exits-on-import",
        "hook-raises",
        "not-a-list",
        "not-an-activation",
        "wrong-arguments",
        "unmarked",
        "looks-up-while-loading",
    ],
)
def test_a_broken_plugin_is_left_out_and_the_others_work(
    install: Install, code: str, reason: str
) -> None:
    install("acme-broken", code)
    install("acme-waves", GOOD.format(name="sine"))
    with pytest.warns(RuntimeWarning, match="acme-broken") as caught:
        assert set(fw.list_activations()) == BUILT_IN | {"sine"}
    assert len(caught) == 1
    assert reason in str(record_of("acme-broken").error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fw.list_activations()  # warned once
    with pytest.raises(fw.InputError, match=r"got 'sinc'.*left out: .*acme-broken"):
        fw.get_activation("sinc")


def test_a_warning_turned_into_an_error_leaves_a_working_registry(install: Install) -> None:
    install("acme-broken", "raise OSError('no such library')")
    with warnings.catch_warnings(), pytest.raises(RuntimeWarning):
        warnings.simplefilter("error")
        fw.list_activations()
    assert set(fw.list_activations()) == BUILT_IN


@pytest.mark.parametrize(
    "name", ["finwidth_register_activation", "finwidth_register_kernels"], ids=["typo", "unknown"]
)
def test_a_misspelt_hook_is_an_error(install: Install, name: str) -> None:
    install("acme-typo", GOOD.format(name="sine").replace("finwidth_register_activations", name))
    with pytest.raises(fw.PluginError, match=rf"expected hooks.*got {name}\b") as caught:
        fw.list_activations()
    assert "acme-typo" in str(caught.value)
    assert name in str(record_of("acme-typo").error)  # the list still works


def test_two_distributions_cannot_share_a_name(install: Install) -> None:
    install("acme-waves", GOOD.format(name="sine"))
    install("bell-waves", GOOD.format(name="sine"))
    with pytest.raises(
        fw.PluginError, match="'sine' from .*'acme-waves'.* and from .*'bell-waves'"
    ):
        fw.list_activations()
    assert "sine" in str(record_of("acme-waves").error)
    assert "sine" in str(record_of("bell-waves").error)


def test_a_plugin_cannot_replace_a_built_in(install: Install) -> None:
    install("acme-waves", GOOD.format(name="erf"))
    with pytest.raises(
        fw.PluginError, match="'erf' from finwidth itself.* and from .*'acme-waves'"
    ):
        fw.get_activation("erf")
    assert record_of("acme-waves").error is not None


def test_the_order_is_that_of_the_names(install: Install) -> None:
    for distribution in ("Zeta_one", "acme-two", "mid.three"):
        module = distribution.replace("-", "_").replace(".", "_")
        install(distribution.replace(".", "_"), GOOD.format(name=module.lower()))
    others = [r.name for r in _plugins.loaded_plugins() if r.origin == "distribution"]
    assert others == ["acme-two", "mid_three", "Zeta_one"]


def test_two_distributions_may_share_an_entry_point_name(install: Install) -> None:
    install("acme-waves", GOOD.format(name="sine"), entry_point="plugin")
    install("bell-waves", GOOD.format(name="cosine"), entry_point="plugin")
    assert {"sine", "cosine"} < set(fw.list_activations())


def test_the_variable_selects_distributions(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-waves", GOOD.format(name="sine"))
    install("bell-waves", GOOD.format(name="cosine"))
    for value, expected in (("Bell_Waves", {"cosine"}), ("", set()), (" acme-waves ,", {"sine"})):
        monkeypatch.setenv(_plugins.VARIABLE, value)
        _plugins.reset()
        assert set(fw.list_activations()) == BUILT_IN | expected
    monkeypatch.setenv(_plugins.VARIABLE, "acme-waves,acme-wave")
    _plugins.reset()
    with pytest.raises(
        fw.InputError, match=r"FINWIDTH_LOAD_PLUGINS.*'acme-waves'.*got 'acme-wave'"
    ):
        fw.list_activations()
    monkeypatch.delenv(_plugins.VARIABLE)
    _plugins.reset()
    assert {"sine", "cosine"} < set(fw.list_activations())


def plugin(*activations: fw.Activation) -> ModuleType:
    module = ModuleType("notebook")

    @fw.hookimpl
    def finwidth_register_activations() -> list[fw.Activation]:
        return list(activations)

    module.finwidth_register_activations = finwidth_register_activations  # type: ignore[attr-defined]
    return module


def test_a_program_can_register_a_plugin(no_distributions: None) -> None:
    cosine = fw.Activation("cosine", jnp.cos)
    fw.register_plugin(plugin(cosine))
    assert fw.get_activation("cosine") is cosine
    assert record_of("notebook").origin == "program"
    with pytest.raises(fw.PluginError, match="got 'notebook' again"):
        fw.register_plugin(plugin(cosine))
    again = fw.Activation("cosine", lambda h: jnp.cos(h))
    fw.register_plugin(plugin(again), replace=True)
    assert fw.get_activation("cosine") is again


def test_a_failed_registration_leaves_no_trace(no_distributions: None) -> None:
    cosine = fw.Activation("cosine", jnp.cos)
    fw.register_plugin(plugin(cosine))
    before = _plugins.loaded_plugins()
    bad = plugin(fw.Activation("erf", jnp.sin), fw.Activation("sine", jnp.sin))
    with pytest.raises(fw.PluginError, match="'erf' from finwidth itself"):
        fw.register_plugin(bad, name="other")
    with pytest.raises(fw.PluginError, match="'erf' from finwidth itself"):
        fw.register_plugin(bad, replace=True)
    with pytest.raises(fw.PluginError, match="marked with finwidth.hookimpl"):
        fw.register_plugin(object())
    assert _plugins.loaded_plugins() == before
    assert set(fw.list_activations()) == BUILT_IN | {"cosine"}
    assert fw.get_activation("cosine") is cosine


def test_the_closest_name_is_suggested(no_distributions: None) -> None:
    with pytest.raises(fw.InputError, match="got 'tahn' .did you mean 'tanh'"):
        fw.get_activation("tahn")


def test_import_loads_no_plugin(install: Install) -> None:
    """In a fresh process: importing is quiet, the first look-up loads and warns."""
    install("acme-loud", "print('loaded')\nraise OSError('no such library')")
    site = next(path for path in sys.path if path.endswith("site"))
    code = "import finwidth as fw; print('imported'); print(fw.list_activations())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": site},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["imported", "loaded", str(sorted(BUILT_IN))]
    assert "RuntimeWarning: left out distribution 'acme-loud'" in done.stderr


def test_an_activation_is_found_without_the_theories(no_distributions: None) -> None:
    """In a fresh process, as the theories bring in what takes seconds to import."""
    code = (
        "import sys, finwidth as fw; fw.get_activation('erf')\n"
        "heavy = ('finwidth.theories', 'xarray', 'numpyro', 'scipy.stats')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_built_in_plugins_come_first_whatever_was_asked_first(install: Install) -> None:
    install("acme-waves", GOOD.format(name="sine"))
    fw.get_activation("sine")
    origins = [record.origin for record in _plugins.loaded_plugins()]
    assert origins == sorted(origins)  # "built-in" before "distribution"
    sources = {record.source for record in _plugins.loaded_plugins()}
    assert {"finwidth.activations.erf", "finwidth.theories.nested"} < sources


THEORY = """
    import finwidth as fw
    from finwidth.theories import OrderParameters, SaddleTheory, recursion

    class Doubled(SaddleTheory):
        name = "{name}"

        def eliminates_q(self, network):
            return True

        def kernel(self, stack, covariance, order):
            q = order.q_bar**2
            return recursion(stack, covariance, OrderParameters.of(q, q))

    @fw.hookimpl
    def finwidth_register_theories():
        return [Doubled()]
"""


def test_an_installed_theory_is_solved_by_name(install: Install) -> None:
    install("acme-theory", THEORY.format(name="doubled"))
    assert "doubled" in fw.list_theories()
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 3)), rng.normal(size=8)
    solution = fw.solve(fw.Network((6,), "erf"), X, y, temperature=0.3, theory="doubled")
    assert solution.theory == "doubled"
    # 𝒮 = N(q − log q − 1) + log|A| + yᵀA⁻¹y with A = T + q²K is stationary
    kernel = fw.nngp_kernel(fw.Network((6,), "erf"), X)

    def action(q: float) -> float:
        a = 0.3 * np.eye(8) + q**2 * kernel
        return float(6 * (q - np.log(q) - 1) + np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y))

    q = float(solution.order_parameters.q_bar[0])
    assert solution.action == pytest.approx(action(q), rel=1e-9)
    slope = (action(q * (1 + 1e-5)) - action(q * (1 - 1e-5))) / 2e-5
    assert abs(slope) < 1e-6
    assert action(q) < min(action(0.9 * q), action(1.1 * q))


def test_a_theory_cannot_take_a_built_in_name(install: Install) -> None:
    install("acme-theory", THEORY.format(name="nested"))
    with pytest.raises(fw.PluginError, match="expected every theory name .* 'nested' from"):
        fw.list_theories()


def test_what_is_no_theory_is_refused(no_distributions: None) -> None:
    class Plugin:
        @fw.hookimpl
        def finwidth_register_theories(self) -> list:
            return ["nested"]

    with pytest.raises(fw.PluginError, match="expected a list of finwidth.theories.Theory, got"):
        fw.register_plugin(Plugin(), "wrong")
    assert fw.solve.__doc__  # and the built-in theories are still there
    assert {"infinite", "nested", "wishart"} <= set(fw.list_theories())


def test_a_theory_can_be_given_itself(no_distributions: None) -> None:
    from finwidth.theories.wishart import Wishart

    X, y = np.eye(4), np.ones(4)
    given = fw.solve(fw.Network((5,)), X, y, temperature=0.1, theory=Wishart())
    named = fw.solve(fw.Network((5,)), X, y, temperature=0.1, theory="wishart")
    assert given.action == named.action


def sampler(**changes) -> list:
    from finwidth.samplers import Sampler

    fields = {"kernel": print, "num_warmup": 5, "num_samples": 5}
    return [Sampler("mine", **(fields | changes))]


@pytest.mark.parametrize(
    ("hook", "items", "message"),
    [
        ("samplers", lambda: sampler(kernel=3), "sampler 'mine' with kernel = a function, got 3"),
        ("samplers", lambda: sampler(num_samples=0), "'mine' with num_samples = an int of at"),
        ("samplers", lambda: ["nuts"], "expected a list of finwidth.samplers.Sampler, got 'nuts'"),
        ("datasets", lambda: [fw.datasets.Source("mine", 3)], "'mine' with load = a function"),
        ("datasets", lambda: [fw.datasets.Source("mine", lambda: 3)], "load = a function .request"),
        (
            "datasets",
            lambda: [fw.datasets.Source("csv", lambda r: r)],
            "'csv' from finwidth itself",
        ),
        ("likelihoods", lambda: ["probit"], "expected a list of finwidth.theories.Likelihood, got"),
        ("activations", lambda: [fw.Activation("a:2", jnp.sin)], "a name without a colon"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_what_breaks_the_protocol_of_its_kind_is_refused(
    no_distributions: None, hook: str, items: Callable[[], list], message: str
) -> None:
    module = ModuleType("broken")
    vars(module)["items"] = items
    code = f"def finwidth_register_{hook}(): return items()"
    exec(f"import finwidth as fw\n@fw.hookimpl\n{code}", vars(module))
    with pytest.raises(fw.PluginError, match=message) as caught:
        fw.register_plugin(module)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda: 3, lambda slope: 3, lambda slope=None: 3, 3, None])
@pytest.mark.usefixtures("unchecked_types")
def test_a_family_needs_parameters_with_numbers(make: object) -> None:
    with pytest.raises(fw.InputError, match="^expected make = a function whose parameters have fl"):
        fw.ActivationFamily("mine", make)  # type: ignore[arg-type]


def test_what_a_family_makes_is_checked(no_distributions: None) -> None:
    def positive(frequency: float = 1.0, phase: float = 0.0) -> fw.Activation:
        if frequency <= 0:
            raise fw.InputError(f"expected frequency > 0, got {frequency:g}")
        return fw.Activation("any", lambda h: jnp.sin(frequency * h + phase))

    family = fw.ActivationFamily("wave", positive)
    assert family.member("2,phase=.5").name == "wave:2,0.5"
    assert family.member("phase=0.5,frequency=2") is family.member("2,0.5")
    assert family.member("").name == family.member("1,-0").name == "wave:1,0"
    with pytest.raises(fw.InputError, match="wave:FREQUENCY,PHASE .* 'wave:-1,0' .*> 0, got"):
        family.member("-1")
    other = fw.ActivationFamily("other", lambda slope=1.0: slope)  # type: ignore[arg-type, return-value]
    with pytest.raises(fw.PluginError, match="'other' to make a finwidth.Activation, got 1.0"):
        other.member("")
