"""Pictures: theory against posterior, learning curves, predictions, kernels, error maps.

Every function draws with matplotlib, imported only when called, and returns its axes; `ax` puts
a picture into a figure of the user's own.
"""

from ._comparison import plot_comparison as plot_comparison
from ._curve import plot_learning_curve as plot_learning_curve
from ._kernel import plot_kernel as plot_kernel
from ._map import plot_error_map as plot_error_map
from ._order import plot_order_parameters as plot_order_parameters
from ._predictions import plot_predictions as plot_predictions

__all__ = [
    "plot_comparison",
    "plot_error_map",
    "plot_kernel",
    "plot_learning_curve",
    "plot_order_parameters",
    "plot_predictions",
]
