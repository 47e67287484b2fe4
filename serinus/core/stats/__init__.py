"""Statistics that stay valid however often one looks, on sums that merge (DESIGN D7)."""
