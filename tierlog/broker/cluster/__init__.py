"""This broker's place in the cluster: its registration, the metadata image, the controller and the way to it.

It may touch the metadata store, and ask other brokers. What is decided lies in ``metadata``. Begin at ``registration``.
"""
