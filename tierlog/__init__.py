"""tierlog: a log cluster that speaks the Kafka wire protocol and tiers sealed segments to an object store."""

__version__ = "0.1.0"
