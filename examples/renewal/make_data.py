"""Writes the example's log: `python examples/renewal/make_data.py`. Synthetic, a few hundred account-months, seeded.

Invariant: the same seed gives the same file; an account that churned never appears again.
"""

from pathlib import Path

import numpy as np
import pandas as pd

MONTHS = pd.date_range("2024-01-01", "2024-12-01", freq="MS")
ACCOUNTS = 110


def main() -> None:
    """One row an account and month: plan, usage, tickets, fee, and whether the account left in the month after."""
    rng = np.random.default_rng(7)
    rows = []
    for number in range(ACCOUNTS):
        plan = rng.choice(["basic", "team", "enterprise"], p=[0.5, 0.35, 0.15])
        taste = rng.normal(0.0, 0.8)
        for month in MONTHS[int(rng.integers(0, 6)) :]:
            sessions = int(rng.poisson(np.exp(2.5 + taste)))
            tickets = int(rng.poisson(0.8 if plan == "basic" else 0.4))
            score = -1.6 - 0.9 * (np.log1p(sessions) - 2.5) + 0.6 * tickets + (0.4 if plan == "basic" else -0.4)
            churned = int(rng.random() < 1 / (1 + np.exp(-score)))
            fee = {"basic": 20.0, "team": 90.0, "enterprise": 400.0}[str(plan)]
            rows.append((f"A{number:03d}", month.date(), plan, sessions, tickets, fee, churned))
            if churned:
                break
    columns = ["account", "month", "plan", "sessions", "tickets", "fee", "churned"]
    target = Path(__file__).parent / "problems/renewal/data/accounts.csv"
    pd.DataFrame(rows, columns=columns).to_csv(target, index=False)


if __name__ == "__main__":
    main()
