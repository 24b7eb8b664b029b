"""Leaf: Kafka's property names, their types, defaults and bounds, and what a broker and a topic make of
them.
"""
