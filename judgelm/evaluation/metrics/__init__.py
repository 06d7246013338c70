"""The formulas."""
