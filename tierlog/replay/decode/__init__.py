"""Record batches to Arrow columns: many batches in one call of the kernel, or in a few vector steps of numpy, and a plain
twin that decides in doubt.

Pure: bytes in, ``pyarrow.RecordBatch`` out. ``compiled`` drives the kernel, and hands over each batch on which it does not
decide. ``fields`` finds where everything lies and gives up with ``Unusual`` on whatever it does not expect; ``plain`` then
reads the same batches record by record, and its word counts: values and errors are those of ``tierlog.records``. Never
imported by a broker, since it needs numpy and pyarrow. Begin at ``batches``.
"""
