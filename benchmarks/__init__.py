"""tierlog and Apache Kafka on the same work in one run: ``python -m benchmarks``, or ``make bench``."""
