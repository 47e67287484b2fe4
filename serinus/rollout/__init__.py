"""Carries out what the core decides: the engine over small ports, and the adapters of one machine."""
