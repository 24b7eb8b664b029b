"""Leaf: Kafka's property names, their types, defaults and bounds."""
