/* Attributes of Python objects by name: the kernel reads and writes the one state that there is, which is Python's. */
#ifndef TIERLOG_ATTRIBUTES_H
#define TIERLOG_ATTRIBUTES_H

#include "kernel.h"

/* Later versions keep an integer's digits otherwise. */
#define HAS_DIGITS (PY_VERSION_HEX < 0x030C0000)
/* The interpreter has one object for each integer up to there. */
#define SHARED_INTEGERS_MAX 256

#define FOLLOWING_NAMES(X) \
    X(_disk_wait_since_ms) X(_forgotten) X(_in_session) X(_last) X(_leader_high_watermark) X(_session_epoch) X(_session_id) \
    X(_stirred) X(_tail) X(_wait_ms) X(_waiting) X(backoff_ms) X(broker_epoch) X(broker_id) X(fetch) X(flusher) X(follower) \
    X(follower_throttled) X(leader_id) X(on_watermark_learnt) X(on_writeback_due) X(outstanding) X(owner) X(partition) \
    X(pending_cut) X(replication_bytes_in) X(request) X(retry_ms) X(state) X(tail_bytes)
#define RECEIVING_NAMES(X) \
    X(_fail) X(_fd) X(_memory) X(_process) X(_reading) X(_send) X(_segments) X(_sent_partly) X(_transport) X(_writer) X(dispatcher) \
    X(get_write_buffer_size) X(hot) X(is_closing) X(set_reading)
#define NAMES(X) \
    X(keep_place) X(pipelined) X(_awaits_memory) X(_awaits_turn) X(_end) X(_frames) X(_in_process) X(_muted_until_s) X(_outgoing) X(_pending) X(_private) X(_receive_turns) \
    X(_reply_memory) X(_start) X(_view) X(closing) X(held_bytes) X(last_active_s) X(limit_bytes) X(max_frame_bytes) X(partial_since_s) X(turn) \
    X(used_bytes) X(_bytes_since_watermark) X(_entries) X(_appended) X(_counts) X(_descriptor) X(_epochs) X(_generation) X(_positions) X(_list) X(_queue) X(_starts) X(acknowledgements) \
    X(accepts_all_acks) X(alone) X(appended) X(base_offset) X(batches) X(bytes_in) X(bytes_since_index_entry) \
    X(bytes_since_writeback) X(changes) X(config) X(count) X(created_ms) X(durable_end_offset) X(end_offset) X(epochs) X(fd) X(filesystem) \
    X(first_timestamp) X(first_unstable_offset) X(flush_acks) X(flush_messages) X(generation) X(high_watermark) X(index_interval_bytes) \
    X(is_broken) X(last_seen_ms) X(last_timestamp) X(leader) X(leader_epoch) X(log) X(log_dir) X(log_end_offset) \
    X(log_start_offset) X(map_end_offset) X(max_bytes) X(maximum_s) X(max_timestamp) X(max_timestamp_offset) X(messages_in) \
    X(move_to_end) X(offline) X(offset_index) X(parked) X(parked_replicas) X(pending) \
    X(plain) X(producer) X(producer_epoch) X(producers) X(pwrite) X(held_max_s) X(recovery_point) X(reply) X(reserve_reached) \
    X(roll_jitter_ms) X(rules) X(segment_bytes) X(segment_ms) X(segments) X(size_bytes) X(snapshots) X(time_index) \
    X(topic_partition) X(traffic) X(txn_first_offset) X(versions) X(writeback_bytes) \
    X(_at) X(_last_place) X(place) X(_fetch_limit_bytes) X(_members) X(rechecked_ms) X(put_back) X(_table) X(bytes_out) X(consumed) X(table) X(brokers) X(client_software) X(client_traffic) X(current_leader_epoch) X(epoch) X(fetch_max_bytes) X(fetch_offset) X(followers) X(go_on) X(high_watermark_sent) X(inter_broker_listener_name) X(isr) X(last_caught_up_ms) \
    X(last_fetch_log_end_offset) X(last_fetch_ms) X(last_fetched_epoch) X(last_used_s) X(leader_throttled) \
    X(listener_name) X(local_log_start_offset) X(locate) X(log_start_waiters) X(min_isr) X(node_id) X(park) \
    X(partitions) X(presence) X(quiet_at) X(quiet_changes) X(rack) X(read_nowait) X(registration) \
    X(release_committed) X(replicas) X(replicated) X(replication_bytes_out) X(reply_memory) X(seen_ms) \
    X(sent_high_watermark) X(sent_log_start_offset) X(session) X(session_id) X(slot) X(stirred) X(topic_id) \
    X(uses_topic_ids) X(watch) X(fresh) X(_fetch) X(_round) X(watched_at) X(aborted_transactions) X(_read) X(_is_draining) X(popleft) \
    RECEIVING_NAMES(X) FOLLOWING_NAMES(X)

enum {
#define X(name) N_##name,
    NAMES(X)
#undef X
    NAMES_COUNT
};

extern PyObject *interned[NAMES_COUNT];
int intern_names(void);

/* Where instances of a type hold an attribute: an ordinary slot is read and written where it lies, anything else (a property,
   an instance's dictionary) by its name. The types are kept, so that no other can come to lie where one was. */
typedef struct {
    PyTypeObject *type;
    Py_ssize_t offset; /* 0: by name */
} Place;

/* So many types have an attribute of one name; with more, the last ones take turns. */
#define PLACES 4
extern Place places[NAMES_COUNT][PLACES];
Py_ssize_t find_offset(PyTypeObject *type, int name);

static inline PyObject **slot_of(PyObject *from, int name)
{
    PyTypeObject *type = Py_TYPE(from);
    const Place *place = places[name];
    Py_ssize_t offset = place[0].type == type ? place[0].offset : place[1].type == type ? place[1].offset : find_offset(type, name);
    return offset == 0 ? NULL : (PyObject **)((char *)from + offset);
}

/* A new reference; NULL with an exception. */
static inline PyObject *get(PyObject *from, int name)
{
    PyObject **slot = slot_of(from, name);
    return slot == NULL || *slot == NULL ? PyObject_GetAttr(from, interned[name]) : Py_NewRef(*slot);
}

/* NULL where it has to be set by name. */
static inline PyObject **writable_slot(PyObject *to, int name)
{
    return Py_TYPE(to)->tp_setattro == PyObject_GenericSetAttr ? slot_of(to, name) : NULL;
}

static inline int set(PyObject *to, int name, PyObject *value)
{
    PyObject **slot = writable_slot(to, name);
    if (slot == NULL)
        return PyObject_SetAttr(to, interned[name], value);
    PyObject *former = *slot;
    *slot = Py_NewRef(value);
    Py_XDECREF(former);
    return 0;
}

/* Of any number; what it asks may drop the place where the value was found. */
int convert_int64(PyObject *value, int64_t *found);

static inline int as_int64(PyObject *value, int64_t *found)
{
#if HAS_DIGITS
    const digit *digits = ((PyLongObject *)value)->ob_digit;
    if (PyLong_CheckExact(value))
        switch (Py_SIZE(value)) {
        case 0:
            *found = 0;
            return 0;
        case 1:
            *found = digits[0];
            return 0;
        case -1:
            *found = -(int64_t)digits[0];
            return 0;
        case 2:
            *found = (int64_t)digits[1] << PyLong_SHIFT | digits[0];
            return 0;
        case 3:
            if (digits[2] >> (63 - 2 * PyLong_SHIFT) != 0)
                break;
            *found = ((int64_t)digits[2] << PyLong_SHIFT | digits[1]) << PyLong_SHIFT | digits[0];
            return 0;
        }
#endif
    return convert_int64(value, found);
}

/* Whether an integer that only its place refers to could be changed where it lies: nobody else has seen it. Never to one of
   those that the interpreter has once, nor to one of another size. */
static inline int change_int64(PyObject *known, int64_t value)
{
#if HAS_DIGITS
    digit *digits = ((PyLongObject *)known)->ob_digit;
    if (Py_REFCNT(known) == 1 && PyLong_CheckExact(known)) {
        if (Py_SIZE(known) == 1 && value > SHARED_INTEGERS_MAX && value <= (int64_t)PyLong_MASK) {
            digits[0] = (digit)value;
            return 1;
        }
        if (Py_SIZE(known) == 2 && value > (int64_t)PyLong_MASK && value >> PyLong_SHIFT <= (int64_t)PyLong_MASK) {
            digits[0] = (digit)(value & PyLong_MASK);
            digits[1] = (digit)(value >> PyLong_SHIFT);
            return 1;
        }
    }
#endif
    return 0;
}

static inline int get_int64(PyObject *from, int name, int64_t *found)
{
    PyObject **slot = slot_of(from, name);
    if (slot != NULL && *slot != NULL)
        return as_int64(*slot, found);
    PyObject *value = PyObject_GetAttr(from, interned[name]);
    if (value == NULL)
        return -1;
    int failed = as_int64(value, found);
    Py_DECREF(value);
    return failed;
}

static inline int set_int64(PyObject *to, int name, int64_t value)
{
    PyObject **slot = writable_slot(to, name);
    if (slot != NULL && *slot != NULL && change_int64(*slot, value))
        return 0;
    PyObject *made = PyLong_FromLongLong(value);
    if (made == NULL)
        return -1;
    int failed = set(to, name, made);
    Py_DECREF(made);
    return failed;
}

static inline int add_int64(PyObject *to, int name, int64_t more)
{
    int64_t value;
    return get_int64(to, name, &value) < 0 ? -1 : set_int64(to, name, value + more);
}

/* Calls a method that takes nothing and has nothing to say: FINE, or FAILED with an exception. */
static inline int call(PyObject *object, int name)
{
    PyObject *done = PyObject_CallMethodNoArgs(object, interned[name]);
    Py_XDECREF(done);
    return done == NULL ? FAILED : FINE;
}

/* Takes the new reference, NULL included, in place of the old one. */
static inline void put_in(PyObject **place, PyObject *with)
{
    PyObject *old = *place;
    *place = with;
    Py_XDECREF(old);
}

static inline int truth_of(PyObject *value)
{
    if (value == Py_True || value == Py_False || value == Py_None)
        return value == Py_True;
    if (PyList_CheckExact(value))
        return Py_SIZE(value) != 0;
    if (PyFloat_CheckExact(value))
        return PyFloat_AS_DOUBLE(value) != 0;
#if HAS_DIGITS
    if (PyLong_CheckExact(value))
        return Py_SIZE(value) != 0;
#endif
    Py_INCREF(value);
    int found = PyObject_IsTrue(value);
    Py_DECREF(value);
    return found;
}

/* 1 or 0 for the truth of an attribute, -1 with an exception. */
static inline int is_true(PyObject *from, int name)
{
    PyObject **slot = slot_of(from, name);
    if (slot != NULL && *slot != NULL)
        return truth_of(*slot);
    PyObject *value = PyObject_GetAttr(from, interned[name]);
    if (value == NULL)
        return -1;
    int found = truth_of(value);
    Py_DECREF(value);
    return found;
}

/* 1 if the attribute is that object, else 0; -1 with an exception. */
static inline int is_object(PyObject *from, int name, PyObject *wanted)
{
    PyObject **slot = slot_of(from, name);
    if (slot != NULL && *slot != NULL)
        return *slot == wanted;
    PyObject *value = PyObject_GetAttr(from, interned[name]);
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
