"""What the cluster knows of itself: keys and records, the image that brokers keep of them, and who decides about it.

Pure but for ``stores``. ``control`` decides, ``session`` is a broker's registration. Begin at ``keys``, then ``image``.
"""
