"""What is told of a broker: metrics under Kafka's names, structured logs, HTTP.

It knows no room of the broker: what it shows is given as rows. Begin at ``metrics``; Kafka's
names are in ``kafka_names``.
"""
