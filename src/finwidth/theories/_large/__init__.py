"""Saddle-point theories of training sets whose P × P matrices fit no memory."""

from .plan import Plan as Plan, choose_plan as choose_plan
from .predict import LargePrediction as LargePrediction
from .solution import LargeSolution as LargeSolution
from .solve import solve_large as solve_large

__all__ = ["LargePrediction", "LargeSolution", "Plan", "choose_plan", "solve_large"]
