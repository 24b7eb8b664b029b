/* Committed offsets as records of __consumer_offsets: what ``coordination.records.encode_events`` does for them. */
#include "kernel.h"

#define KEY_VERSION 1
#define VALUE_VERSION 3
#define TOPIC_ID_BYTES 16
/* Of a key and a value without their strings. */
#define KEY_BYTES 10
#define VALUE_BYTES 24
#define VARINT_MAX_BYTES 5

struct text {
    const char *data;
    Py_ssize_t size;
};

/* One event; ``is_removal``: without a value. */
struct event {
    struct text group, topic, metadata;
    int64_t partition, offset, leader_epoch, commit_timestamp_ms;
    int is_removal;
};

static uint8_t *put_varint(uint8_t *at, int32_t value)
{
    uint32_t rest = ((uint32_t)value << 1) ^ (uint32_t)(value >> 31);
    for (; rest >= 0x80; rest >>= 7)
        *at++ = (uint8_t)(rest | 0x80);
    *at++ = (uint8_t)rest;
    return at;
}

static uint8_t *put_number(uint8_t *at, int64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--)
        *at++ = (uint8_t)((uint64_t)value >> (8 * i));
    return at;
}

static uint8_t *put_text(uint8_t *at, const struct text *text)
{
    at = put_number(at, text->size, 2);
    memcpy(at, text->data, (size_t)text->size);
    return at + text->size;
}

/* 1, or 0 where the object is no text that fits. */
static int read_text(PyObject *object, struct text *text)
{
    if (!PyUnicode_Check(object))
        return 0;
    text->data = PyUnicode_AsUTF8AndSize(object, &text->size);
    return text->data != NULL && text->size <= INT16_MAX;
}

static int read_number(PyObject *object, int64_t least, int64_t most, int64_t *found)
{
    if (!PyLong_Check(object))
        return 0;
    *found = PyLong_AsLongLong(object);
    return !(*found == -1 && PyErr_Occurred()) && *found >= least && *found <= most;
}

/* A ``CommittedOffset`` that is written in version 3: without an expiry of its own, and without a topic id. */
static int read_committed(PyObject *object, struct event *event)
{
    static const char no_id[TOPIC_ID_BYTES];
    int64_t expiry_ms;
    if (!PyTuple_Check(object) || PyTuple_Size(object) != 6)
        return 0;
    PyObject *topic_id = PyTuple_GetItem(object, 5);
    return read_number(PyTuple_GetItem(object, 0), INT64_MIN, INT64_MAX, &event->offset)
        && read_number(PyTuple_GetItem(object, 1), INT32_MIN, INT32_MAX, &event->leader_epoch)
        && read_text(PyTuple_GetItem(object, 2), &event->metadata)
        && read_number(PyTuple_GetItem(object, 3), INT64_MIN, INT64_MAX, &event->commit_timestamp_ms)
        && read_number(PyTuple_GetItem(object, 4), -1, -1, &expiry_ms) && PyBytes_Check(topic_id)
        && PyBytes_Size(topic_id) == TOPIC_ID_BYTES && memcmp(PyBytes_AsString(topic_id), no_id, TOPIC_ID_BYTES) == 0;
}

/* An ``OffsetCommitted``; 0 for anything else. */
static int read_event(PyObject *object, struct event *event)
{
    if (!PyTuple_Check(object) || PyTuple_Size(object) != 4)
        return 0;
    PyObject *committed = PyTuple_GetItem(object, 3);
    event->is_removal = committed == Py_None;
    return read_text(PyTuple_GetItem(object, 0), &event->group) && read_text(PyTuple_GetItem(object, 1), &event->topic)
        && read_number(PyTuple_GetItem(object, 2), INT32_MIN, INT32_MAX, &event->partition)
        && (event->is_removal || read_committed(committed, event));
}

/* Room for one record, whatever its numbers are. */
static size_t room_for(const struct event *event)
{
    size_t texts = (size_t)event->group.size + (size_t)event->topic.size;
    if (!event->is_removal)
        texts += (size_t)event->metadata.size;
    return texts + KEY_BYTES + VALUE_BYTES + 3 + 5 * VARINT_MAX_BYTES;
}

/* Behind the length: attributes and timestamp delta (both 0), offset delta, key, value, no headers. */
static uint8_t *put_body(uint8_t *at, const struct event *event, int32_t offset_delta)
{
    *at++ = 0;
    *at++ = 0;
    at = put_varint(at, offset_delta);
    at = put_varint(at, (int32_t)(KEY_BYTES + event->group.size + event->topic.size));
    at = put_number(at, KEY_VERSION, 2);
    at = put_text(at, &event->group);
    at = put_text(at, &event->topic);
    at = put_number(at, event->partition, 4);
    if (event->is_removal) {
        at = put_varint(at, -1);
    } else {
        at = put_varint(at, (int32_t)(VALUE_BYTES + event->metadata.size));
        at = put_number(at, VALUE_VERSION, 2);
        at = put_number(at, event->offset, 8);
        at = put_number(at, event->leader_epoch, 4);
        at = put_text(at, &event->metadata);
        at = put_number(at, event->commit_timestamp_ms, 8);
    }
    *at++ = 0;
    return at;
}

/* The record at ``at``, where there is room; the length comes first, so it is put in front of the body. */
static uint8_t *put_record(uint8_t *at, const struct event *event, int32_t offset_delta)
{
    uint8_t length[VARINT_MAX_BYTES];
    uint8_t *body = at + VARINT_MAX_BYTES;
    size_t size = (size_t)(put_body(body, event, offset_delta) - body);
    size_t prefix = (size_t)(put_varint(length, (int32_t)size) - length);
    memcpy(at, length, prefix);
    memmove(at + prefix, body, size);
    return at + prefix + size;
}

/* Room for the records of the events from ``start`` on; 0 where one of them is unknown here. */
static size_t room_for_all(PyObject *events, Py_ssize_t start)
{
    struct event event;
    size_t room = 0;
    for (Py_ssize_t at = start; at < PyList_Size(events); at++) {
        if (!read_event(PyList_GetItem(events, at), &event))
            return 0;
        room += room_for(&event);
    }
    return room;
}

/* Writes the records from ``start`` on, at most ``most`` bytes but one record; returns where they end. */
static Py_ssize_t write_all(PyObject *events, Py_ssize_t start, size_t most, uint8_t *records, size_t *size)
{
    struct event event;
    Py_ssize_t at = start;
    *size = 0;
    for (; at < PyList_Size(events) && read_event(PyList_GetItem(events, at), &event); at++) {
        uint8_t *end = put_record(records + *size, &event, (int32_t)(at - start));
        if ((size_t)(end - records) > most && at > start)
            break;
        *size = (size_t)(end - records);
    }
    return at;
}

static PyObject *offset_records(PyObject *module, PyObject *args)
{
    PyObject *events;
    Py_ssize_t start, most;
    if (!PyArg_ParseTuple(args, "Onn", &events, &start, &most))
        return NULL;
    if (!PyList_Check(events) || most < 0 || start < 0 || PyList_Size(events) > INT32_MAX)
        Py_RETURN_NONE;
    size_t size, room = room_for_all(events, start);
    if (room == 0) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    uint8_t *records = PyMem_Malloc(room);
    if (records == NULL)
        return PyErr_NoMemory();
    Py_ssize_t end = write_all(events, start, (size_t)most, records, &size);
    PyObject *made = Py_BuildValue("y#n", (char *)records, (Py_ssize_t)size, end);
    PyMem_Free(records);
    return made;
}

PyMethodDef offsets_methods[] = {
    {"offset_records", offset_records, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
