"""Object stores beside the brokers' own: those that topics name in ``tierlog.object.store``. Begin at ``topic_stores``.

* ``topic_stores``: which store a topic has; opens each once, when it is first needed.
* ``by_topic``: one store made of all of them, which takes each object to its topic's.
* ``admission``: whether a topic may have a store, asked before it gets it.
* ``places``: where a URL points, and which of them get in each other's way.
"""
