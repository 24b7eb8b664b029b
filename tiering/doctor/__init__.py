"""What is wrong with an object store before it is used: ``examine`` looks at one, whatever it is.

``trial`` tries on the port what a broker does, ``neighbours`` looks for other clusters; ``s3``, ``gcs`` and ``directory``
add what only they have. Everything that is written for it is removed again.
"""
