"""Serinus: from a raw log to a rollout that decides by itself. Rooms: docs/concepts/architecture.md."""
