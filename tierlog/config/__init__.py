"""Leaf: Kafka's property names, their types, defaults and bounds, and the typed configs of a broker and of a
topic.
"""
