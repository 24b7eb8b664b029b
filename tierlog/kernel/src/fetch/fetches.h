/* The type ``Fetches``, and what its files share. */
#ifndef TIERLOG_FETCHES_H
#define TIERLOG_FETCHES_H

#include "fetch.h"

#define FETCHES_OTHERS(X) X(parts) X(image) X(sessions) X(by_name) X(by_id) X(by_broker) X(request_type) X(parks) X(clock) X(recorder) X(throttled_software) X(counts) \
    X(parks_consumer) X(slice_type) X(writev)

typedef struct {
    PyObject_HEAD
#define X(name) PyObject *name;
    FETCHES_OTHERS(X)
#undef X
    long recheck_ms;
    int is_busy;
    FetchRequest request;
    Look look;
    int is_named[READS_MAX];
} Fetches;

/* fetch_limits.c: answers of 1 or 0; FINE or NOT_FOR_HERE; FAILED with an exception. */
int is_throttled(Fetches *self, PyObject *connection);
int set_budget(Fetches *self, PyObject *config, int64_t max_bytes, int64_t min_bytes);
int is_enough(const Look *look);
int record(Fetches *self, int version, double arrival_s, int is_held);

/* fetches.c: the request's part in ``FetchSessions.resolve``, for one that only names what the session has. */
int advance_session(Fetches *self, double now_s);

/* fetch_consumer.c: as ``serve_fetch``. ``looked``: what a fetch that has waited has looked at; it is answered with what is
   there. NULL: it is new. */
PyObject *serve_consumer(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked);
int consume_one(Look *look, Read *read, int is_committed_only);
int count_consumed(Fetches *self, const Read *read, PyObject *connection);
PyObject *park(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked, PyObject *watch);

/* parked_reply.c: FINE, NOT_FOR_HERE, or FAILED with an exception. */
#define BUFFERS_MAX 1024
int send_parked(PyObject *writev, PyObject *connection, PyObject *slot, PyObject *buffers);

/* fetch_session.c */
PyObject *serve_session(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked);

#endif
