/* One Produce request: what its frame says (request.c). */
#ifndef TIERLOG_PRODUCE_H
#define TIERLOG_PRODUCE_H

#include "append.h"
#include "cursor.h"

/* Beyond that a request lets others in between, which only the Python path does. */
#define PARTITIONS_MAX 64
/* Topics are named by id. */
#define BY_ID_SINCE 13

/* A topic of the request; ``name`` is its name or id as it lies in the frame. */
typedef struct {
    const uint8_t *name;
    int32_t name_bytes;
    int partitions;
} Topic;

typedef struct {
    int version, acks;
    int32_t timeout_ms;
    uint32_t correlation_id;
    int is_flexible;
    const uint8_t *client_id;
    int client_id_bytes; /* -1: null */
    int topics_count, parts_count;
    Topic topics[PARTITIONS_MAX];
    Part parts[PARTITIONS_MAX];
} Request;

#define REPLIES_BYTES 16384
#define OTHERS(X) X(by_name) X(by_id) X(internal_topics) X(known_batch) X(append_result) X(now_ms) X(clock) X(recorder) X(takes_turn) X(undo) X(fetches) X(waits)

/* The type ``Produce``: see _compiled.pyi. */
typedef struct {
    PyObject_HEAD
#define X(name) PyObject *name;
    OTHERS(X)
#undef X
    int is_busy, is_over;
    Request request;
    /* Replies of the turn that is being taken: of fetches and those before them (NULL: none), then those of produces. */
    PyObject *answers;
    Py_ssize_t reply_bytes;
    uint8_t replies[REPLIES_BYTES];
} Produce;

/* produce.c: one frame, which ``frame`` has at ``start``. None, True, or a list; NULL with an exception. */
PyObject *serve_frame(Produce *self, PyObject *connection, PyObject *frame, uint8_t *bytes, Py_ssize_t start, Py_ssize_t size, double arrival_s);

/* The replies of this turn as a list of buffers. */
PyObject *taken_replies(Produce *self);

/* received.c */
/* Leaves the replies of this turn so far to the connection, in their order; -1 with an exception. */
int hand_over(Produce *self, PyObject *connection);
PyObject *received(Produce *self, PyObject *args);

/* request.c: FINE or NOT_FOR_HERE. */
int read_request(uint8_t *frame, Py_ssize_t size, Request *request);
Py_ssize_t reply_bytes_max(const Request *request);
Py_ssize_t write_reply(const Request *request, uint8_t *to);


#endif
