/* An append to a log, a leader's (append.c) or a follower's (follow_append.c): what is found before the write. */
#ifndef TIERLOG_APPEND_H
#define TIERLOG_APPEND_H

#include "attributes.h"

#define REMEMBERED_BATCHES 5

typedef struct {
    int32_t index;
    uint8_t *batch;
    Py_ssize_t size;
    int topic;

    /* Strong references, NULL until found. */
    PyObject *partition, *traffic, *log, *leader, *segments, *segment, *producers, *entry;
    /* As they are before the append. */
    int64_t end_offset, log_start_offset, position, since_index_entry, segment_max_timestamp, segment_max_timestamp_offset, leader_epoch;
    int64_t recovery_point, flush_messages, writeback_bytes;
    int64_t index_interval_bytes, segment_bytes, segment_base_offset, first_timestamp, created_ms, roll_ms;
    int is_alone, is_waiting;
    /* Of the batch's header. */
    int64_t max_timestamp, producer_id;
    int32_t count, base_sequence;
} Part;

/* append.c: FINE, NOT_FOR_HERE, or FAILED with an exception. */
int check_part(Part *part, int acks, int64_t now_ms);
int is_still_so(const Part *part);
int write_part(Part *part);
int count_part(Part *part, int *is_told);
void release_part(Part *part);
PyObject *active_of(PyObject *segments);
int check_segment(Part *part, int64_t now_ms);
/* Whether a batch may be appended behind one that is only checked so far: FINE, NOT_FOR_HERE or FAILED. */
int follow_part(Part *part, const Part *before, int64_t now_ms);
int is_quiet(const Part *part, int64_t end_offset);
void stamp_batch(uint8_t *batch, int64_t base_offset, int64_t leader_epoch);
int check_epoch(const Part *part);
int find_producer(Part *part);
int write_batch(const Part *part, const uint8_t *bytes, Py_ssize_t size, int64_t *written);

/* remember.c: FINE, or FAILED with an exception. */
int remember_part(Part *part, PyObject *known_batch, int64_t now_ms);
int note_batch(Part *part, int64_t end_offset);
int note_segment(const Part *part, int64_t end_offset);
int remember_producer(Part *part, PyObject *known_batch, int64_t end_offset, int64_t now_ms);
int note_end(Part *part, int64_t end_offset);

/* indexes.c: the entries of both indexes that are due for a batch. */
int index_batch(PyObject *segment, int64_t last_offset, int64_t position, int64_t timestamp, int64_t timestamp_offset);

#endif
