/* One Produce request: what its frame says (request.c), what the log must be told (append.c). */
#ifndef TIERLOG_PRODUCE_H
#define TIERLOG_PRODUCE_H

#include "attributes.h"
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
    int32_t index;
    uint8_t *batch;
    Py_ssize_t size;
    int topic;

    /* Strong references, NULL until found. */
    PyObject *partition, *traffic, *log, *leader, *segments, *segment, *producers, *entry;
    /* As they are before the append. */
    int64_t end_offset, log_start_offset, position, since_index_entry, segment_max_timestamp, leader_epoch;
    int64_t recovery_point, flush_messages, writeback_bytes;
    int index_is_due, is_alone;
    /* Of the batch's header. */
    int64_t max_timestamp, producer_id;
    int32_t count, base_sequence;
} Part;

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

/* append.c: FINE, NOT_FOR_HERE, or FAILED with an exception. */
int check_part(Part *part, int acks, int64_t now_ms);
int is_still_so(const Part *part);
int write_part(Part *part, PyObject *frame, Py_ssize_t start);
int remember_part(Part *part, PyObject *known_batch, int64_t now_ms);
int count_part(Part *part, int *is_told);
void release_part(Part *part);

#endif
