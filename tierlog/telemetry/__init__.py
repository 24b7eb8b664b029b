"""Metrics under Kafka's names, structured logs, HTTP.

It imports no room of the broker: the broker passes in rows. Begin at ``metrics``; Kafka's names are in ``kafka_names``.
"""
