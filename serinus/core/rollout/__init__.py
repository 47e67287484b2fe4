"""A rollout: its policy, its state, and the pure step from one state to the next (DESIGN D4 to D8)."""
