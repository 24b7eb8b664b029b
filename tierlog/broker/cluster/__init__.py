"""This broker's place in the cluster: its registration, the metadata image, the controller and the way to it.

This room may touch the metadata store and ask other brokers. The decisions lie in ``metadata``. Begin at ``registration``.
"""
