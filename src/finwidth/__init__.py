"""finwidth: Bayesian neural networks of finite width, in theory and by exact sampling.

One `Network` and a training set give the saddle-point prediction (`solve`) and the exact
posterior (`sample`); `compare` says whether they agree. Names load on first use, so that
``import finwidth`` is quick; importing changes no JAX flag (see `finwidth._precision`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        datasets as datasets,
        diagnostics as diagnostics,
        infer as infer,
        models as models,
        testing as testing,
        theories as theories,
    )
    from ._activation import (
        Activation as Activation,
        get_activation as get_activation,
        list_activations as list_activations,
    )
    from ._attach import attach as attach
    from ._compare import compare as compare
    from ._errors import (
        AccuracyWarning as AccuracyWarning,
        ConvergenceError as ConvergenceError,
        FinwidthError as FinwidthError,
        InputError as InputError,
        PluginError as PluginError,
    )
    from ._fluctuations import fluctuations as fluctuations
    from ._hookspecs import hookimpl as hookimpl
    from ._io import load as load, save as save
    from ._many import solve_many as solve_many
    from ._map import MapPoint as MapPoint, error_map as error_map
    from ._map_summary import summarize_error_map as summarize_error_map
    from ._mixture import MixtureSolution as MixtureSolution, mixture as mixture
    from ._network import Network as Network
    from ._nngp import nngp_kernel as nngp_kernel
    from ._plots import (
        plot_comparison as plot_comparison,
        plot_error_map as plot_error_map,
        plot_kernel as plot_kernel,
        plot_learning_curve as plot_learning_curve,
    )
    from ._plugins import register as register_plugin  # noqa: F401
    from ._sample import SamplingInterrupted as SamplingInterrupted, sample as sample
    from ._solution import Prediction as Prediction, Solution as Solution
    from ._solve import list_theories as list_theories, solve as solve
    from ._student_t_process import (
        StudentTProcessSolution as StudentTProcessSolution,
        student_t_process as student_t_process,
    )
    from .datasets import Dataset as Dataset, load_dataset as load_dataset

__version__ = "0.1.0"

# public name -> (module, name there); a module itself where the second is empty
_EXPORTS = {
    "Activation": ("_activation", "Activation"),
    "get_activation": ("_activation", "get_activation"),
    "list_activations": ("_activation", "list_activations"),
    "compare": ("_compare", "compare"),
    "AccuracyWarning": ("_errors", "AccuracyWarning"),
    "ConvergenceError": ("_errors", "ConvergenceError"),
    "FinwidthError": ("_errors", "FinwidthError"),
    "InputError": ("_errors", "InputError"),
    "PluginError": ("_errors", "PluginError"),
    "fluctuations": ("_fluctuations", "fluctuations"),
    "hookimpl": ("_hookspecs", "hookimpl"),
    "attach": ("_attach", "attach"),
    "load": ("_io", "load"),
    "save": ("_io", "save"),
    "nngp_kernel": ("_nngp", "nngp_kernel"),
    "solve_many": ("_many", "solve_many"),
    "MapPoint": ("_map", "MapPoint"),
    "error_map": ("_map", "error_map"),
    "summarize_error_map": ("_map_summary", "summarize_error_map"),
    "MixtureSolution": ("_mixture", "MixtureSolution"),
    "mixture": ("_mixture", "mixture"),
    "Network": ("_network", "Network"),
    "plot_comparison": ("_plots", "plot_comparison"),
    "plot_error_map": ("_plots", "plot_error_map"),
    "plot_kernel": ("_plots", "plot_kernel"),
    "plot_learning_curve": ("_plots", "plot_learning_curve"),
    "register_plugin": ("_plugins", "register"),
    "SamplingInterrupted": ("_sample", "SamplingInterrupted"),
    "sample": ("_sample", "sample"),
    "Prediction": ("_solution", "Prediction"),
    "Solution": ("_solution", "Solution"),
    "list_theories": ("_solve", "list_theories"),
    "solve": ("_solve", "solve"),
    "StudentTProcessSolution": ("_student_t_process", "StudentTProcessSolution"),
    "student_t_process": ("_student_t_process", "student_t_process"),
    "Dataset": ("datasets", "Dataset"),
    "load_dataset": ("datasets", "load_dataset"),
    "datasets": ("datasets", ""),
    "diagnostics": ("diagnostics", ""),
    "infer": ("infer", ""),
    "models": ("models", ""),
    "testing": ("testing", ""),
    "theories": ("theories", ""),
}

__all__ = ["__version__", *_EXPORTS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'finwidth' has no attribute {name!r}")
    module_name, attribute = _EXPORTS[name]
    module = importlib.import_module(f".{module_name}", __name__)
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
