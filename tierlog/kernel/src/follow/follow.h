/* A follower's round: the leader's answer (follow_answer.c), what it appends (follow_append.c), the next request
   (follow_ask.c). */
#ifndef TIERLOG_FOLLOW_H
#define TIERLOG_FOLLOW_H

#include "append.h"
#include "cursor.h"

#define FOLLOW_OBJECTS(X) X(partitions) X(schedule) X(known_batch) X(follower_fetch) X(fetching) X(client_id) X(failed)
#define FOLLOW_NUMBERS(X) X(node_id) X(source_id) X(max_named) X(wait_max_ms) X(min_bytes) X(response_bytes_max) X(bytes_max) X(backoff_min_ms)

typedef struct {
    PyObject_HEAD
#define X(name) PyObject *name;
    FOLLOW_OBJECTS(X)
#undef X
#define X(name) int name;
    FOLLOW_NUMBERS(X)
#undef X
} Follow;

/* One partition of an ordinary answer. */
typedef struct {
    const uint8_t *topic_id;
    int32_t index;
    int64_t high_watermark, log_start_offset;
    uint8_t *records;
    Py_ssize_t size;
} Answered;

/* Walks over the partitions of an answer. */
typedef struct {
    Cursor cursor;
    const uint8_t *topic_id;
    int32_t topics, partitions; /* How many are left: topics behind this one, partitions of it. */
} Walk;

/* follow_answer.c: FINE or NOT_FOR_HERE; ``read_answered`` also at the end, where ``topic_id`` is NULL. */
int begin_answer(uint8_t *frame, Py_ssize_t size, uint32_t correlation_id, int32_t *session_id, Walk *walk);
int read_answered(Walk *walk, Answered *answered);

/* follow_append.c: FINE, NOT_FOR_HERE, or FAILED with an exception. */
int take_answered(Follow *follow, const Answered *answered, int64_t wall_clock_ms);

/* follow_ask.c: a request with its size; None where it is not for here; NULL with an exception. */
PyObject *next_request(Follow *follow, uint32_t correlation_id, int64_t broker_epoch, int64_t now_ms);

/* The entry of a table for one key of it, borrowed: NULL with an exception or where there is none. */
static inline PyObject *find_followed(const Follow *follow, PyObject *key) { return PyDict_GetItemWithError(follow->partitions, key); }

/* Takes the key out of a table, if it is there. */
static inline int discard(PyObject *table, PyObject *key)
{
    int is_there = PyDict_Contains(table, key);
    return is_there == 1 ? PyDict_DelItem(table, key) : is_there;
}

#endif
