"""Wiring: reads serinus.toml, builds the adapters of a profile, and holds the steps of the pipeline.

Invariant: the only room that knows which adapter fills which port.
"""
