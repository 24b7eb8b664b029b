/* Entries of a segment's two indexes, added to their tails in memory. Where a tail is to be written out, or an entry does not
   fit, ``append`` of the index itself is called. */
#include "append.h"
#include "cursor.h"

#define ENTRY_BYTES_MAX 12

/* The last entry; a pair that only the index refers to is changed where it lies. */
static int set_last(PyObject *index, int64_t first, int64_t second)
{
    PyObject **slot = writable_slot(index, N__last), *known = slot == NULL ? NULL : *slot;
    if (known != NULL && PyTuple_CheckExact(known) && Py_REFCNT(known) == 1 && PyTuple_GET_SIZE(known) == 2
        && change_int64(PyTuple_GET_ITEM(known, 0), first) && change_int64(PyTuple_GET_ITEM(known, 1), second))
        return FINE;
    PyObject *last = Py_BuildValue("(LL)", (long long)first, (long long)second);
    int failed = last == NULL || set(index, N__last, last) < 0;
    Py_XDECREF(last);
    return failed ? FAILED : FINE;
}

/* ``SparseIndex._append``, without the write; NOT_FOR_HERE, and nothing was changed, where that is due. */
static int append_to_tail(PyObject *index, const uint8_t *entry, Py_ssize_t size, int64_t first, int64_t second)
{
    int64_t tail_bytes;
    READ(index, tail_bytes, &tail_bytes);
    PyObject *tail = get(index, N__tail);
    if (tail == NULL)
        return FAILED;
    Py_ssize_t held = PyByteArray_Size(tail);
    if (held >= tail_bytes - size) {
        Py_DECREF(tail);
        return NOT_FOR_HERE;
    }
    int failed = PyByteArray_Resize(tail, held + size) < 0;
    if (!failed)
        memcpy(PyByteArray_AsString(tail) + held, entry, (size_t)size);
    Py_DECREF(tail);
    return failed || add_int64(index, N_count, 1) < 0 ? FAILED : set_last(index, first, second);
}

static int append_by_itself(PyObject *index, int64_t first, int64_t second)
{
    PyObject *done = PyObject_CallMethod(index, "append", "LL", (long long)first, (long long)second);
    Py_XDECREF(done);
    return done == NULL ? FAILED : FINE;
}

static int is_relative(int64_t value) { return value >= 0 && value <= INT32_MAX; }

/* ``OffsetIndex.append`` */
static int append_offset(PyObject *index, int64_t last_offset, int64_t position)
{
    int64_t base_offset;
    uint8_t entry[ENTRY_BYTES_MAX];
    READ(index, base_offset, &base_offset);
    int64_t relative = last_offset - base_offset;
    int done = NOT_FOR_HERE;
    if (is_relative(relative) && is_relative(position)) {
        put32(put32(entry, (uint32_t)relative), (uint32_t)position);
        done = append_to_tail(index, entry, 8, relative, position);
    }
    return done == NOT_FOR_HERE ? append_by_itself(index, last_offset, position) : done;
}

/* The timestamp of the last entry, -1 without one. */
static int last_timestamp(PyObject *index, int64_t *timestamp)
{
    *timestamp = -1;
    PyObject *last = get(index, N__last);
    if (last == NULL)
        return FAILED;
    PyObject *first = last == Py_None ? NULL : PyTuple_GetItem(last, 0);
    int failed = last != Py_None && (first == NULL || as_int64(first, timestamp) < 0);
    Py_DECREF(last);
    return failed ? FAILED : FINE;
}

/* ``TimeIndex.append`` */
static int append_time(PyObject *index, int64_t timestamp, int64_t offset)
{
    int64_t base_offset, latest;
    uint8_t entry[ENTRY_BYTES_MAX];
    TRY(last_timestamp(index, &latest));
    READ(index, base_offset, &base_offset);
    int64_t relative = offset - base_offset;
    if (timestamp <= latest || relative < 0)
        return FINE;
    int done = NOT_FOR_HERE;
    if (is_relative(relative)) {
        put32(put64(entry, (uint64_t)timestamp), (uint32_t)relative);
        done = append_to_tail(index, entry, 12, timestamp, relative);
    }
    return done == NOT_FOR_HERE ? append_by_itself(index, timestamp, offset) : done;
}

int index_batch(PyObject *segment, int64_t last_offset, int64_t position, int64_t timestamp, int64_t timestamp_offset)
{
    PyObject *offsets = get(segment, N_offset_index), *times = get(segment, N_time_index);
    int done = offsets == NULL || times == NULL ? FAILED : append_offset(offsets, last_offset, position);
    if (done == FINE)
        done = append_time(times, timestamp, timestamp_offset);
    Py_XDECREF(offsets);
    Py_XDECREF(times);
    return done;
}
