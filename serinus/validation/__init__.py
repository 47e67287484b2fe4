"""Data contracts: declared expectations about a table, their verdict, and the rows set aside.

Invariant: a check that could not be made is an error, never a pass and never bad data (D15).
"""
