/* The scan of a segment before it is copied: batches, their offsets and checksums, index entries and the checksums of chunks in
   one pass over the bytes. The twin is ``tiering/copying/scan.py``. */
#include "batches.h"

/* What is known of everything in front of ``position``; see ``State`` in the twin. */
typedef struct {
    long long position, batch_count, next_offset, last_epoch, first_timestamp, max_timestamp, index_due;
    long long pending_timestamp, pending_offset;
    unsigned int chunk_crc, data_crc;
} walked;

typedef struct {
    Py_ssize_t points, times, chunks;
    int64_t *offsets, *positions, *timestamps, *time_offsets;
    uint32_t *crcs;
} entries;

/* The bytes since the last one whose chunk and data checksums are known. */
typedef struct {
    uint32_t crc;
    size_t bytes;
} run;

static void note_time(walked *state, entries *out)
{
    if (state->pending_timestamp < 0)
        return;
    out->timestamps[out->times] = state->pending_timestamp;
    out->time_offsets[out->times++] = state->pending_offset;
    state->pending_timestamp = -1;
}

static void note_run(walked *state, run *since)
{
    state->chunk_crc = crc32c_in_front(state->chunk_crc, since->bytes) ^ since->crc;
    state->data_crc = crc32c_in_front(state->data_crc, since->bytes) ^ since->crc;
    *since = (run){0, 0};
}

/* Takes a batch into the run, piece by piece where chunks end in it. */
static void note_bytes(walked *state, entries *out, run *since, const uint8_t *at, size_t size, uint32_t crc, size_t chunk)
{
    size_t room = chunk - (size_t)(state->position % (long long)chunk);
    state->position += (long long)size;
    if (size < room && size >= crc32c_joined_from()) {
        since->crc = crc32c_in_front(crc32c(since->crc, at, ATTRIBUTES_AT), size - ATTRIBUTES_AT) ^ crc;
        since->bytes += size;
        return;
    }
    for (; size >= room; at += room, size -= room, room = chunk) {
        since->crc = crc32c(since->crc, at, room);
        since->bytes += room;
        note_run(state, since);
        out->crcs[out->chunks++] = state->chunk_crc;
        state->chunk_crc = 0;
    }
    since->crc = crc32c(since->crc, at, size);
    since->bytes += size;
}

/* Walks while nothing is odd; the bytes that were walked. */
static Py_ssize_t walk(
    walked *state, entries *out, const uint8_t *data, Py_ssize_t size, int64_t base_offset, Py_ssize_t interval, size_t chunk)
{
    run since = {0, 0};
    Py_ssize_t at = 0, length;
    while ((length = whole_size(data + at, size - at)) != 0 && length <= INT32_MAX) {
        const uint8_t *batch = data + at;
        uint32_t crc = unsigned32(batch + CRC_AT);
        int64_t base, end, epoch = int32_at(batch + LEADER_EPOCH_AT), timestamp = int64_at(batch + MAX_TIMESTAMP_AT);
        if (!end_of_offsets(batch, &base, &end) || epoch < state->last_epoch
            || (state->next_offset < 0 ? end <= base_offset : base < state->next_offset)
            || crc32c(0, batch + ATTRIBUTES_AT, (size_t)(length - ATTRIBUTES_AT)) != crc)
            break;
        state->next_offset = end;
        state->last_epoch = epoch;
        if (state->batch_count++ == 0)
            state->first_timestamp = timestamp;
        if (state->position >= state->index_due) {
            out->offsets[out->points] = base;
            out->positions[out->points++] = state->position;
            state->index_due = state->position + interval;
            note_time(state, out);
        }
        if (timestamp > state->max_timestamp) {
            state->max_timestamp = state->pending_timestamp = timestamp;
            state->pending_offset = base;
        }
        note_bytes(state, out, &since, batch, (size_t)length, crc, chunk);
        at += length;
    }
    note_run(state, &since);
    return at;
}

/* Room for all entries that so many bytes can have; NULL without memory. */
static int64_t *make_room(entries *out, Py_ssize_t size, Py_ssize_t interval, Py_ssize_t chunk)
{
    Py_ssize_t batches = size / HEADER_BYTES, points = size / interval, chunks = size / chunk + 1;
    points = (points < batches ? points : batches) + 1;
    int64_t *room = PyMem_Malloc((size_t)points * 4 * sizeof(int64_t) + (size_t)chunks * sizeof(uint32_t));
    *out = (entries){0};
    if (room == NULL)
        return NULL;
    out->offsets = room;
    out->positions = room + points;
    out->timestamps = room + 2 * points;
    out->time_offsets = room + 3 * points;
    out->crcs = (uint32_t *)(room + 4 * points);
    return room;
}

static PyObject *answer(const walked *state, const entries *out, Py_ssize_t size)
{
    Py_ssize_t points = out->points * 8, times = out->times * 8;
    return Py_BuildValue(
        "(n(LLLLLLLLLII)y#y#y#y#y#)", size, state->position, state->batch_count, state->next_offset, state->last_epoch,
        state->first_timestamp, state->max_timestamp, state->index_due, state->pending_timestamp, state->pending_offset,
        state->chunk_crc, state->data_crc, (char *)out->offsets, points, (char *)out->positions, points,
        (char *)out->timestamps, times, (char *)out->time_offsets, times, (char *)out->crcs, out->chunks * 4);
}

/* walk_segment(data, state, base_offset, interval, chunk) -> (bytes, state, four columns of entries, chunk checksums) */
static PyObject *walk_segment(PyObject *module, PyObject *args)
{
    Py_buffer data;
    walked state;
    entries out;
    long long base_offset;
    Py_ssize_t interval, chunk;
    if (!PyArg_ParseTuple(
            args, "y*(LLLLLLLLLII)Lnn", &data, &state.position, &state.batch_count, &state.next_offset, &state.last_epoch,
            &state.first_timestamp, &state.max_timestamp, &state.index_due, &state.pending_timestamp, &state.pending_offset,
            &state.chunk_crc, &state.data_crc, &base_offset, &interval, &chunk))
        return NULL;
    PyObject *found = NULL;
    int64_t *room = NULL;
    if (interval < HEADER_BYTES || interval > UINT32_MAX || chunk < HEADER_BYTES || chunk > UINT32_MAX || state.position < 0
        || state.position > INT64_MAX / 2 || state.batch_count < 0 || state.batch_count > INT64_MAX / 2)
        PyErr_SetString(PyExc_ValueError, "no state of a scan");
    else if ((room = make_room(&out, data.len, interval, chunk)) == NULL)
        PyErr_NoMemory();
    else {
        PyThreadState *thread = data.len < UNLOCKED_FROM_BYTES ? NULL : PyEval_SaveThread();
        Py_ssize_t size = walk(&state, &out, data.buf, data.len, base_offset, interval, (size_t)chunk);
        if (thread != NULL)
            PyEval_RestoreThread(thread);
        found = answer(&state, &out, size);
    }
    PyMem_Free(room);
    PyBuffer_Release(&data);
    return found;
}

PyMethodDef segment_methods[] = {
    {"walk_segment", walk_segment, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
