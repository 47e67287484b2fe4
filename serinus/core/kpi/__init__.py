"""KPIs: what a rollout measures. A formula is a value that knows all that others ask of it (DESIGN D22).

Invariant: nobody outside of this package compares or lists the names of formulas; a new KPI is one `Formula` here and
its test.
"""

from serinus.core.kpi.formula import Estimator, Formula, Guards, Role
from serinus.core.kpi.formulas import FORMULAS, HITS_AT_K, formula_of, register
from serinus.core.kpi.kpi import Kpi
from serinus.core.kpi.rows import Happened, Rows, Shown

__all__ = [
    "FORMULAS",
    "HITS_AT_K",
    "Estimator",
    "Formula",
    "Guards",
    "Happened",
    "Kpi",
    "Role",
    "Rows",
    "Shown",
    "formula_of",
    "register",
]
