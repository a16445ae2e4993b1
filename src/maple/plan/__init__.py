"""Study -> cells -> cohorts: crossed, impossible ones dropped with reasons, costs estimated."""

from maple.plan.cross import Cell, Skip
from maple.plan.evaluations import Evaluation, Missing
from maple.plan.plan import Cohort, Plan, make_plan
from maple.plan.resolve import Resolver

__all__ = [
    "Cell",
    "Cohort",
    "Evaluation",
    "Missing",
    "Plan",
    "Resolver",
    "Skip",
    "make_plan",
]
