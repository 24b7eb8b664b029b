"""Record batches of format v2 (KIP-98): header view, stamping, records, compression, control markers.

Pure: bytes in, values and bytes out. The hot path reads only the 61-byte header (``batch``); records are opened
only by ``records``, ``spans`` and ``validate``.
"""
