"""Cluster metadata: the store port and its backends, the records, the image and the deciding controller."""
