"""Forecasts of held bytes, and what disks hold: pure."""
