"""Pure rules of the system: no file, clock, network or random source is touched in this room."""
