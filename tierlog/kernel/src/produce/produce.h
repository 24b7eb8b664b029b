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
    int topics_count, parts_count, parts_max;
    /* Of whoever holds the request; as many topics as parts. */
    Topic *topics;
    Part *parts;
} Request;

/* A request of one batch, in a run of them. ``end``: of its frame. */
typedef struct {
    Request request;
    Topic topic;
    Part part;
    int64_t end;
    int64_t came_with; /* the leader epoch that the batch had */
} Single;

#define RUN_MAX 16

#define REPLIES_BYTES 16384
#define OTHERS(X) X(by_name) X(by_id) X(internal_topics) X(known_batch) X(append_result) X(now_ms) X(now_s) X(clock) X(recorder) X(takes_turn) X(undo) X(fetches) X(waits) X(write) X(clock_stands)

/* The type ``Produce``: see _compiled.pyi. */
typedef struct {
    PyObject_HEAD
#define X(name) PyObject *name;
    OTHERS(X)
#undef X
    int is_busy, is_over;
    Request request;
    Topic topics[PARTITIONS_MAX];
    Part parts[PARTITIONS_MAX];
    Single run[RUN_MAX];
    /* Replies of the turn that is being taken: of fetches and those before them (NULL: none), then those of produces. */
    PyObject *answers;
    Py_ssize_t reply_bytes;
    uint8_t replies[REPLIES_BYTES];
} Produce;

/* produce.c: one frame, which ``frame`` has at ``start``. None, True, or a list; NULL with an exception. */
PyObject *serve_frame(Produce *self, PyObject *connection, uint8_t *bytes, Py_ssize_t size, double arrival_s);
int is_produce(PyObject *object);

int find_part(Produce *self, const Request *request, Part *part);
int take_turn(Produce *self, const Request *request, const Part *part, PyObject *connection);
PyObject *finish_part(Produce *self, Part *part, int64_t now_ms);
int ask_now_ms(Produce *self, int64_t *now_ms);
int answer(Produce *self, const Request *request, double arrival_s);
/* The replies of this turn as a list of buffers. */
PyObject *taken_replies(Produce *self);

/* Received bytes that are not yet given out, of ``FrameBuffer``. */
typedef struct {
    PyObject *view; /* strong */
    Py_buffer bytes;
    int64_t start, end, bytes_max;
} Received;

/* run.c: how many frames were served together, 0 where it is not for here; -1 with an exception. ``connection.appended`` tells
   what the handler goes on with. */
int serve_run(Produce *self, PyObject *connection, const Received *opened, double arrival_s);

/* received.c */
#define SIZE_PREFIX_BYTES 4
/* The size of the next frame if it is whole, else -1; a size that is not allowed is for the twin to refuse. */
int64_t next_size(const Received *opened);
/* replies.c */
/* Leaves the replies of this turn so far to the connection, in their order; -1 with an exception. */
int hand_over(Produce *self, PyObject *connection);
/* Sends the replies of this turn, all of them of produces: FINE, or FAILED with an exception. */
int send_replies(Produce *self, PyObject *connection);
/* Whether nothing is before new replies in the transport of a SocketWriter, and its socket is a plain one. */
int takes_bytes(PyObject *writer);
/* What the socket has not taken of the buffers is the transport's: FINE, or FAILED with an exception. */
int leave_rest(PyObject *connection, PyObject *buffers, int64_t sent);

/* keys.c: a partition in the table of those hosted, by id or by name: a new reference; NULL without an exception, too. */
PyObject *hosted(PyObject *table, int is_by_id, const uint8_t *name, Py_ssize_t name_bytes, int32_t index);

/* request.c: FINE or NOT_FOR_HERE. */
int read_request(uint8_t *frame, Py_ssize_t size, Request *request);
Py_ssize_t reply_bytes_max(const Request *request);
Py_ssize_t write_reply(const Request *request, uint8_t *to);


#endif
