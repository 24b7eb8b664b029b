"""Tests of the broker's side of the tier: real broker, log and metadata store in this process."""
