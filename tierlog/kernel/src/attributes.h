/* Attributes of Python objects by name: the kernel reads and writes the one state that there is, which is Python's. */
#ifndef TIERLOG_ATTRIBUTES_H
#define TIERLOG_ATTRIBUTES_H

#include "kernel.h"

#define NAMES(X) \
    X(_bytes_since_watermark) X(_entries) X(_appended) X(_counts) X(_descriptor) X(_epochs) X(_generation) X(_positions) X(_list) X(_queue) X(_starts) X(acknowledgements) \
    X(accepts_all_acks) X(alone) X(appended) X(base_offset) X(batches) X(bytes_in) X(bytes_since_index_entry) \
    X(bytes_since_writeback) X(changes) X(config) X(count) X(created_ms) X(durable_end_offset) X(end_offset) X(epochs) X(fd) X(filesystem) \
    X(first_timestamp) X(first_unstable_offset) X(flush_acks) X(flush_messages) X(generation) X(high_watermark) X(index_interval_bytes) \
    X(is_broken) X(last_seen_ms) X(last_timestamp) X(leader) X(leader_epoch) X(log) X(log_dir) X(log_end_offset) \
    X(log_start_offset) X(map_end_offset) X(max_bytes) X(maximum_s) X(max_timestamp) X(max_timestamp_offset) X(messages_in) \
    X(move_to_end) X(offline) X(offset_index) X(parked) X(parked_replicas) X(pending) \
    X(plain) X(producer) X(producer_epoch) X(producers) X(pwrite) X(held_max_s) X(recovery_point) X(reply) X(reserve_reached) \
    X(roll_jitter_ms) X(rules) X(segment_bytes) X(segment_ms) X(segments) X(size_bytes) X(snapshots) X(time_index) \
    X(topic_partition) X(traffic) X(txn_first_offset) X(versions) X(writeback_bytes) \
    X(_at) X(_fetch_limit_bytes) X(_members) X(rechecked_ms) X(put_back) X(_table) X(bytes_out) X(consumed) X(table) X(broker_epoch) X(brokers) X(client_software) \
    X(client_traffic) X(current_leader_epoch) X(epoch) X(fetch) X(fetch_max_bytes) X(fetch_offset) X(followers) \
    X(go_on) X(high_watermark_sent) X(inter_broker_listener_name) X(isr) X(last_caught_up_ms) \
    X(last_fetch_log_end_offset) X(last_fetch_ms) X(last_fetched_epoch) X(last_used_s) X(leader_throttled) \
    X(listener_name) X(local_log_start_offset) X(locate) X(log_start_waiters) X(min_isr) X(node_id) X(park) \
    X(partition) X(partitions) X(presence) X(quiet_at) X(quiet_changes) X(rack) X(read_nowait) X(registration) \
    X(release_committed) X(replicas) X(replicated) X(replication_bytes_out) X(reply_memory) X(seen_ms) \
    X(sent_high_watermark) X(sent_log_start_offset) X(session) X(session_id) X(slot) X(stirred) X(topic_id) \
    X(used_bytes) X(uses_topic_ids)

enum {
#define X(name) N_##name,
    NAMES(X)
#undef X
    NAMES_COUNT
};

extern PyObject *interned[NAMES_COUNT];
int intern_names(void);

/* A new reference; NULL with an exception. */
static inline PyObject *get(PyObject *from, int name) { return PyObject_GetAttr(from, interned[name]); }

static inline int as_int64(PyObject *value, int64_t *found)
{
    *found = PyLong_AsLongLong(value);
    return *found == -1 && PyErr_Occurred() ? -1 : 0;
}

static inline int get_int64(PyObject *from, int name, int64_t *found)
{
    PyObject *value = get(from, name);
    if (value == NULL)
        return -1;
    int failed = as_int64(value, found);
    Py_DECREF(value);
    return failed;
}

static inline int set_int64(PyObject *to, int name, int64_t value)
{
    PyObject *made = PyLong_FromLongLong(value);
    if (made == NULL)
        return -1;
    int failed = PyObject_SetAttr(to, interned[name], made);
    Py_DECREF(made);
    return failed;
}

static inline int add_int64(PyObject *to, int name, int64_t more)
{
    int64_t value;
    return get_int64(to, name, &value) < 0 ? -1 : set_int64(to, name, value + more);
}

/* Takes the new reference, NULL included, in place of the old one. */
static inline void put_in(PyObject **place, PyObject *with)
{
    PyObject *old = *place;
    *place = with;
    Py_XDECREF(old);
}

/* 1 or 0 for the truth of an attribute, -1 with an exception. */
static inline int is_true(PyObject *from, int name)
{
    PyObject *value = get(from, name);
    if (value == NULL)
        return -1;
    int found = PyObject_IsTrue(value);
    Py_DECREF(value);
    return found;
}

/* 1 if the attribute is that object, else 0; -1 with an exception. */
static inline int is_object(PyObject *from, int name, PyObject *wanted)
{
    PyObject *value = get(from, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == wanted;
}

#define TRY(step) \
    do { \
        int made = (step); \
        if (made != FINE) \
            return made; \
    } while (0)
#define READ(from, name, to) \
    do { \
        if (get_int64(from, N_##name, to) < 0) \
            return FAILED; \
    } while (0)
#define WANT(question) \
    do { \
        int said = (question); \
        if (said != 1) \
            return said < 0 ? FAILED : NOT_FOR_HERE; \
    } while (0)
#define WANT_NOT(question) \
    do { \
        int said = (question); \
        if (said != 0) \
            return said < 0 ? FAILED : NOT_FOR_HERE; \
    } while (0)

#endif
