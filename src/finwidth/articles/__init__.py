"""The figures of the talk and of the article, one a module; adding one touches no other file.

A figure is a module of this package whose name has no leading underscore; it holds ``figure``, a
`Figure`. The article is Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023).
"""

from .._plugins.shelf import Shelf
from ._figure import Figure, Table
from ._study import SIZES, Study

__all__ = ["SHELF", "SIZES", "Figure", "Study", "Table"]

SHELF: Shelf[Figure] = Shelf(
    "finwidth.articles", "figure", Figure, "finwidth.articles.Figure", attribute="figure"
)
