"""Cluster metadata: its keys and records, the image that every broker keeps of it, and the controller that changes it.

Pure except for ``stores``. ``control`` decides, ``session`` is a broker's registration. Begin at ``keys``, then ``image``.
"""
