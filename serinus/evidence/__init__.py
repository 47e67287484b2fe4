"""What was shown and what came of it: the event log, the intake of outcomes, and KPI rows made of both."""
