/* Walks over the headers of record batches, with their checksums. */
#include "batches.h"

/* Half-open bounds from outside, made to fit the buffer. */
static int clip(Py_ssize_t *start, Py_ssize_t *end, Py_ssize_t size)
{
    if (*end < 0 || *end > size)
        *end = size;
    if (*start < 0 || *start > *end) {
        PyErr_SetString(PyExc_ValueError, "start lies outside of the data");
        return -1;
    }
    return 0;
}

#define FIELDS 13

static PyObject *header_of(const uint8_t *at, PyObject *type)
{
    PyObject *fields[FIELDS] = {
        PyLong_FromLongLong(int64_at(at)),
        PyLong_FromLong(int32_at(at + 8)),
        PyLong_FromLong(int32_at(at + LEADER_EPOCH_AT)),
        PyLong_FromLong(at[MAGIC_AT]),
        PyLong_FromUnsignedLong(unsigned32(at + CRC_AT)),
        PyLong_FromLong(int16_at(at + ATTRIBUTES_AT)),
        PyLong_FromLong(int32_at(at + LAST_OFFSET_DELTA_AT)),
        PyLong_FromLongLong(int64_at(at + BASE_TIMESTAMP_AT)),
        PyLong_FromLongLong(int64_at(at + MAX_TIMESTAMP_AT)),
        PyLong_FromLongLong(int64_at(at + PRODUCER_ID_AT)),
        PyLong_FromLong(int16_at(at + PRODUCER_EPOCH_AT)),
        PyLong_FromLong(int32_at(at + BASE_SEQUENCE_AT)),
        PyLong_FromLong(int32_at(at + COUNT_AT)),
    };
    return tuple_of(type, fields, FIELDS);
}

/* The headers of the batches in [start, stop); NULL with an error. */
static PyObject *headers_between(const uint8_t *bytes, Py_ssize_t start, Py_ssize_t stop, PyObject *type)
{
    PyObject *found = PyList_New(0);
    Py_ssize_t size;
    while (found != NULL && start < stop && (size = whole_size(bytes + start, stop - start)) != 0) {
        PyObject *header = header_of(bytes + start, type);
        if (header == NULL || PyList_Append(found, header) < 0)
            Py_CLEAR(found);
        Py_XDECREF(header);
        start += size;
    }
    return found;
}

/* What a log has reached: the next batch may not go back. */
typedef struct {
    int64_t offset, epoch;
} reached;


/* Whether a follower takes the batch, and nothing about it is for the twin: markers are. */
static int follows(const uint8_t *at, reached *log, int64_t *first)
{
    int64_t base, end, epoch = int32_at(at + LEADER_EPOCH_AT);
    if (!end_of_offsets(at, &base, &end) || base < log->offset || epoch < log->epoch
        || (int16_at(at + ATTRIBUTES_AT) & CONTROL_BIT && int64_at(at + PRODUCER_ID_AT) >= 0))
        return 0;
    if (*first == INT64_MIN)
        *first = base;
    else if ((uint64_t)(end - 1) - (uint64_t)*first > MAX_RELATIVE_OFFSET)
        return 0;
    log->offset = end;
    log->epoch = epoch;
    return 1;
}

/* The end of the sound batches from ``start`` on, at most ``limit`` of them. Without the lock where that takes a while, but
   for a follower's append: that is the loop's, which would wait longer for the lock than this takes. */
static Py_ssize_t sound_until(
    const uint8_t *bytes, Py_ssize_t start, Py_ssize_t end, int verify, Py_ssize_t limit, reached *log)
{
    PyThreadState *thread = !verify || log != NULL || end - start < UNLOCKED_FROM_BYTES ? NULL : PyEval_SaveThread();
    int64_t first = INT64_MIN;
    Py_ssize_t size;
    while (limit-- > 0 && (size = whole_size(bytes + start, end - start)) != 0) {
        if ((verify && !has_good_crc(bytes + start, size)) || (log != NULL && !follows(bytes + start, log, &first)))
            break;
        start += size;
    }
    if (thread != NULL)
        PyEval_RestoreThread(thread);
    return start;
}

static PyObject *found_headers(const uint8_t *bytes, Py_ssize_t start, Py_ssize_t stop, PyObject *type)
{
    if (!PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "headers are made as a kind of tuple");
        return NULL;
    }
    PyObject *found = headers_between(bytes, start, stop, type);
    return found == NULL ? NULL : Py_BuildValue("(Nn)", found, stop);
}

/* headers(data, start, end, verify, limit, type) -> (headers, stop) */
static PyObject *headers(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t start, end, limit;
    int verify;
    PyObject *type, *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*nnpnO!", &data, &start, &end, &verify, &limit, &PyType_Type, &type))
        return NULL;
    if (clip(&start, &end, data.len) == 0) {
        Py_ssize_t stop = sound_until(data.buf, start, end, verify, limit, NULL);
        answer = found_headers(data.buf, start, stop, type);
    }
    PyBuffer_Release(&data);
    return answer;
}

/* followed(data, end_offset, epoch, type) -> (headers, stop) */
static PyObject *followed(PyObject *module, PyObject *args)
{
    Py_buffer data;
    long long offset, epoch;
    PyObject *type;
    if (!PyArg_ParseTuple(args, "y*LLO!", &data, &offset, &epoch, &PyType_Type, &type))
        return NULL;
    reached log = {offset, epoch};
    Py_ssize_t stop = sound_until(data.buf, 0, data.len, 1, PY_SSIZE_T_MAX, &log);
    PyObject *answer = found_headers(data.buf, 0, stop, type);
    PyBuffer_Release(&data);
    return answer;
}

/* noted(data, count, position, interval, since, timestamp, offset) -> (count, since, timestamp, offset, index entries) */
static PyObject *noted(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t count, position, interval, since, size, at = 0, done = 0;
    long long timestamp, offset;
    if (!PyArg_ParseTuple(args, "y*nnnnLL", &data, &count, &position, &interval, &since, &timestamp, &offset))
        return NULL;
    if (since < 0 || position < 0)
        count = 0;
    PyObject *entries = PyList_New(0);
    const uint8_t *bytes = data.buf;
    while (entries != NULL && done < count && (size = whole_size(bytes + at, data.len - at)) != 0) {
        int64_t base, end;
        if (!end_of_offsets(bytes + at, &base, &end) || size > PY_SSIZE_T_MAX - since || at > PY_SSIZE_T_MAX - position)
            break;
        if (int64_at(bytes + at + MAX_TIMESTAMP_AT) > timestamp) {
            timestamp = int64_at(bytes + at + MAX_TIMESTAMP_AT);
            offset = end - 1;
        }
        if (since > interval) {
            PyObject *entry = Py_BuildValue("(LnLL)", (long long)(end - 1), position + at, timestamp, offset);
            if (entry == NULL || PyList_Append(entries, entry) < 0)
                Py_CLEAR(entries);
            Py_XDECREF(entry);
            since = 0;
        }
        since += size;
        at += size;
        done++;
    }
    PyBuffer_Release(&data);
    return entries == NULL ? NULL : Py_BuildValue("(nnLLN)", done, since, timestamp, offset, entries);
}

#define REMEMBERED_MAX 16

/* Data batches of one producer and epoch, of no transaction; only the last ``limit`` of them are kept. */
typedef struct {
    int64_t producer;
    int epoch;
    Py_ssize_t limit, count;
    Py_ssize_t numbers[REMEMBERED_MAX], places[REMEMBERED_MAX];
} producer_run;

static int tell(PyObject *told, Py_ssize_t number, Py_ssize_t place)
{
    PyObject *pair = Py_BuildValue("(nn)", number, place);
    int failed = pair == NULL || PyList_Append(told, pair) < 0;
    Py_XDECREF(pair);
    return failed;
}

static int tell_run(PyObject *told, producer_run *run)
{
    Py_ssize_t first = run->count < run->limit ? 0 : run->count - run->limit;
    for (Py_ssize_t number = first; number < run->count; number++)
        if (tell(told, run->numbers[number % run->limit], run->places[number % run->limit]))
            return -1;
    run->count = 0;
    return 0;
}

static int hear(PyObject *told, producer_run *run, const uint8_t *batch, Py_ssize_t number, Py_ssize_t place)
{
    int64_t producer = int64_at(batch + PRODUCER_ID_AT);
    int epoch = int16_at(batch + PRODUCER_EPOCH_AT);
    if (producer < 0)
        return 0;
    int is_plain = !(int16_at(batch + ATTRIBUTES_AT) & (CONTROL_BIT | TRANSACTIONAL_BIT))
        && int32_at(batch + BASE_SEQUENCE_AT) >= 0;
    if ((!is_plain || producer != run->producer || epoch != run->epoch) && tell_run(told, run) < 0)
        return -1;
    if (!is_plain)
        return tell(told, number, place);
    run->producer = producer;
    run->epoch = epoch;
    run->numbers[run->count % run->limit] = number;
    run->places[run->count++ % run->limit] = place;
    return 0;
}

/* told(data, count, remembered) -> [(number, position), ...] */
static PyObject *told(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t count, at = 0, number = 0, size;
    producer_run run = {0};
    if (!PyArg_ParseTuple(args, "y*nn", &data, &count, &run.limit))
        return NULL;
    PyObject *found = NULL;
    if (run.limit < 1 || run.limit > REMEMBERED_MAX)
        PyErr_SetString(PyExc_ValueError, "so many batches are not remembered");
    else
        found = PyList_New(0);
    const uint8_t *bytes = data.buf;
    for (; found != NULL && number < count && (size = whole_size(bytes + at, data.len - at)) != 0; number++, at += size)
        if (hear(found, &run, bytes + at, number, at))
            Py_CLEAR(found);
    if (found != NULL && tell_run(found, &run))
        Py_CLEAR(found);
    PyBuffer_Release(&data);
    return found;
}

/* whole_below(data, end_offset) -> (stop, end offset of the last batch, -1 without one) */
static PyObject *whole_below(PyObject *module, PyObject *args)
{
    Py_buffer data;
    long long end_offset;
    if (!PyArg_ParseTuple(args, "y*L", &data, &end_offset))
        return NULL;
    const uint8_t *bytes = data.buf;
    Py_ssize_t at = 0, size;
    int64_t found = -1;
    while ((size = whole_size(bytes + at, data.len - at)) != 0) {
        int64_t base, end;
        if (!end_of_offsets(bytes + at, &base, &end) || base < 0 || end > end_offset)
            break;
        at += size;
        found = end;
    }
    PyBuffer_Release(&data);
    return Py_BuildValue("(nL)", at, (long long)found);
}

PyMethodDef scan_methods[] = {
    {"headers", headers, METH_VARARGS, NULL},
    {"followed", followed, METH_VARARGS, NULL},
    {"noted", noted, METH_VARARGS, NULL},
    {"told", told, METH_VARARGS, NULL},
    {"whole_below", whole_below, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
