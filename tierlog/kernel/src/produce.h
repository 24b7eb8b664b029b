/* One Produce request: what its frame says (request.c). */
#ifndef TIERLOG_PRODUCE_H
#define TIERLOG_PRODUCE_H

#include "append.h"

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
    uint32_t correlation_id;
    int is_flexible;
    const uint8_t *client_id;
    int client_id_bytes; /* -1: null */
    int topics_count, parts_count;
    Topic topics[PARTITIONS_MAX];
    Part parts[PARTITIONS_MAX];
} Request;

/* request.c: FINE or NOT_FOR_HERE. */
int read_request(uint8_t *frame, Py_ssize_t size, Request *request);
Py_ssize_t reply_bytes_max(const Request *request);
Py_ssize_t write_reply(const Request *request, uint8_t *to);

/* metrics.c: ``ApiMetrics.record`` and ``held``; -1 with an exception. */
int record_request(PyObject *recorder, int version, double took_s);

#endif
