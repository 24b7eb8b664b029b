"""Bytes of real clients, taken apart by hand."""
