"""finwidth: Bayesian neural networks of finite width, in theory and by exact sampling.

One `Network` and a training set give the saddle-point prediction (`solve`) and the exact
posterior (`sample`); `compare` says whether they agree. Names load on first use, so that
``import finwidth`` is quick; importing changes no JAX flag (see `finwidth._numerics.precision`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        datasets as datasets,
        diagnostics as diagnostics,
        infer as infer,
        models as models,
        samplers as samplers,
        testing as testing,
        theories as theories,
    )
    from ._advice.advise import advise as advise
    from ._advice.shipped import load_error_map as load_error_map
    from ._basics.errors import (
        AccuracyWarning as AccuracyWarning,
        ConvergenceError as ConvergenceError,
        FinwidthError as FinwidthError,
        InputError as InputError,
        PluginError as PluginError,
    )
    from ._estimators import (
        FiniteWidthClassifier as FiniteWidthClassifier,
        FiniteWidthRegressor as FiniteWidthRegressor,
    )
    from ._layers.convolution import Convolution as Convolution
    from ._layers.dense import Dense as Dense
    from ._layers.residual import Residual as Residual
    from ._observables import (
        Components as Components,
        Observable as Observable,
        Prediction as Prediction,
    )
    from ._plots import (
        plot_comparison as plot_comparison,
        plot_error_map as plot_error_map,
        plot_kernel as plot_kernel,
        plot_learning_curve as plot_learning_curve,
        plot_order_parameters as plot_order_parameters,
        plot_predictions as plot_predictions,
    )
    from ._plugins.hooks import hookimpl as hookimpl
    from ._plugins.registry import register as register_plugin  # noqa: F401
    from ._problem.network import Network as Network
    from ._problem.nngp import nngp_kernel as nngp_kernel
    from ._results.attach import attach as attach
    from ._results.compare import compare as compare
    from ._results.files import load as load, save as save
    from ._results.map_summary import summarize_error_map as summarize_error_map
    from ._results.scores import scores as scores
    from ._sampling.sample import SamplingInterrupted as SamplingInterrupted, sample as sample
    from ._solve import mixture as mixture, solve as solve, student_t_process as student_t_process
    from ._sweeps.grid import grid as grid
    from ._sweeps.many import solve_many as solve_many
    from ._sweeps.map import MapPoint as MapPoint, error_map as error_map
    from ._sweeps.sweep import sweep as sweep
    from .activations._activation import (
        Activation as Activation,
        ActivationFamily as ActivationFamily,
        get_activation as get_activation,
        list_activations as list_activations,
    )
    from .datasets import Dataset as Dataset, load_dataset as load_dataset
    from .theories._mixture.solution import MixtureSolution as MixtureSolution
    from .theories._saddle.fluctuations import fluctuations as fluctuations
    from .theories._solution import Solution as Solution
    from .theories._student_t_process import StudentTProcessSolution as StudentTProcessSolution
    from .theories._theory import list_theories as list_theories

__version__ = "1.0.0rc1"

# public name -> (module, name there); a module itself where the second is empty
_EXPORTS = {
    "Activation": ("activations", "Activation"),
    "ActivationFamily": ("activations", "ActivationFamily"),
    "get_activation": ("activations", "get_activation"),
    "list_activations": ("activations", "list_activations"),
    "advise": ("_advice.advise", "advise"),
    "load_error_map": ("_advice.shipped", "load_error_map"),
    "compare": ("_results.compare", "compare"),
    "AccuracyWarning": ("_basics.errors", "AccuracyWarning"),
    "ConvergenceError": ("_basics.errors", "ConvergenceError"),
    "FinwidthError": ("_basics.errors", "FinwidthError"),
    "InputError": ("_basics.errors", "InputError"),
    "PluginError": ("_basics.errors", "PluginError"),
    "FiniteWidthClassifier": ("_estimators.classifier", "FiniteWidthClassifier"),
    "FiniteWidthRegressor": ("_estimators.regressor", "FiniteWidthRegressor"),
    "fluctuations": ("theories._saddle.fluctuations", "fluctuations"),
    "hookimpl": ("_plugins.hooks", "hookimpl"),
    "attach": ("_results.attach", "attach"),
    "load": ("_results.files", "load"),
    "save": ("_results.files", "save"),
    "nngp_kernel": ("_problem.nngp", "nngp_kernel"),
    "grid": ("_sweeps.grid", "grid"),
    "solve_many": ("_sweeps.many", "solve_many"),
    "MapPoint": ("_sweeps.map", "MapPoint"),
    "error_map": ("_sweeps.map", "error_map"),
    "sweep": ("_sweeps.sweep", "sweep"),
    "summarize_error_map": ("_results.map_summary", "summarize_error_map"),
    "MixtureSolution": ("theories._mixture.solution", "MixtureSolution"),
    "mixture": ("_solve", "mixture"),
    "Convolution": ("_layers.convolution", "Convolution"),
    "Dense": ("_layers.dense", "Dense"),
    "Residual": ("_layers.residual", "Residual"),
    "Network": ("_problem.network", "Network"),
    "plot_comparison": ("_plots", "plot_comparison"),
    "plot_error_map": ("_plots", "plot_error_map"),
    "plot_kernel": ("_plots", "plot_kernel"),
    "plot_learning_curve": ("_plots", "plot_learning_curve"),
    "plot_order_parameters": ("_plots", "plot_order_parameters"),
    "plot_predictions": ("_plots", "plot_predictions"),
    "register_plugin": ("_plugins.registry", "register"),
    "SamplingInterrupted": ("_sampling.sample", "SamplingInterrupted"),
    "sample": ("_sampling.sample", "sample"),
    "scores": ("_results.scores", "scores"),
    "Components": ("_observables", "Components"),
    "Observable": ("_observables", "Observable"),
    "Prediction": ("_observables", "Prediction"),
    "Solution": ("theories", "Solution"),
    "list_theories": ("theories._theory", "list_theories"),
    "solve": ("_solve", "solve"),
    "StudentTProcessSolution": ("theories._student_t_process", "StudentTProcessSolution"),
    "student_t_process": ("_solve", "student_t_process"),
    "Dataset": ("datasets", "Dataset"),
    "load_dataset": ("datasets", "load_dataset"),
    "datasets": ("datasets", ""),
    "diagnostics": ("diagnostics", ""),
    "infer": ("infer", ""),
    "models": ("models", ""),
    "samplers": ("samplers", ""),
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
