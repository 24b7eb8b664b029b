"""Record batches of format v2 (KIP-98): header view, stamping, records, compression, control markers.

Deciding room: bytes in, values and bytes out. The hot path stays at the 61-byte header (``batch``); records
are opened only by ``records``, ``walk`` and ``validate``.
"""
