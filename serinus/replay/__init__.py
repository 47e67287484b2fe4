"""Replays recorded requests against a running service, with what really happened afterwards as outcomes."""
