"""Tests of the remote tier."""
