/* What is noted of a batch behind its write: the twin is ``writing._remember`` and whatever it calls. */
#include "append.h"

/* As in ``log.positions``. */
#define POSITIONS_MAX 128
#define KNOWN_BATCH_FIELDS 5

/* ``Segment.note_batch``, as far as the indexes: what else it notes is kept in the part, for the next batch of a run. */
int note_batch(Part *part, int64_t end_offset)
{
    if (part->max_timestamp > part->segment_max_timestamp) {
        part->segment_max_timestamp = part->max_timestamp;
        part->segment_max_timestamp_offset = end_offset - 1;
    }
    int64_t since = part->since_index_entry;
    int is_due = since > part->index_interval_bytes;
    part->since_index_entry = part->size + (is_due ? 0 : since);
    return !is_due ? FINE
                   : index_batch(part->segment, end_offset - 1, part->position, part->segment_max_timestamp,
                                 part->segment_max_timestamp_offset);
}

/* Behind the last ``note_batch`` of an append. */
int note_segment(const Part *part, int64_t end_offset)
{
    PyObject *segment = part->segment;
    if (set_int64(segment, N_max_timestamp, part->segment_max_timestamp) < 0
        || set_int64(segment, N_max_timestamp_offset, part->segment_max_timestamp_offset) < 0
        || set_int64(segment, N_bytes_since_index_entry, part->since_index_entry) < 0)
        return FAILED;
    return set_int64(segment, N_end_offset, end_offset) < 0 ? FAILED : FINE;
}

/* Makes the oldest batch the last one, with other fields, where only the list refers to it; 0 where it cannot be. */
static int reuse_oldest(PyObject *batches, PyObject *known_batch, const int64_t *values)
{
    PyObject *oldest = PyList_GET_ITEM(batches, 0);
    if (!Py_IS_TYPE(oldest, (PyTypeObject *)known_batch) || Py_REFCNT(oldest) != 1 || PyTuple_GET_SIZE(oldest) != KNOWN_BATCH_FIELDS)
        return 0;
    for (int i = 0; i < KNOWN_BATCH_FIELDS; i++) {
        PyObject *known = PyTuple_GET_ITEM(oldest, i);
        if (change_int64(known, values[i]))
            continue;
        PyObject *made = PyLong_FromLongLong(values[i]);
        if (made == NULL)
            return -1;
        PyTuple_SET_ITEM(oldest, i, made);
        Py_DECREF(known);
    }
    PyObject **items = ((PyListObject *)batches)->ob_item;
    memmove(items, items + 1, (REMEMBERED_BATCHES - 1) * sizeof *items);
    items[REMEMBERED_BATCHES - 1] = oldest;
    return 1;
}

static int remember_batch(PyObject *batches, PyObject *known_batch, const int64_t *values)
{
    int is_reused = PyList_CheckExact(batches) && PyList_GET_SIZE(batches) == REMEMBERED_BATCHES ? reuse_oldest(batches, known_batch, values) : 0;
    if (is_reused != 0)
        return is_reused < 0 ? FAILED : FINE;
    PyObject *fields[KNOWN_BATCH_FIELDS];
    for (int i = 0; i < KNOWN_BATCH_FIELDS; i++)
        fields[i] = PyLong_FromLongLong(values[i]);
    PyObject *made = tuple_of(known_batch, fields, KNOWN_BATCH_FIELDS);
    int failed = made == NULL || PyList_Append(batches, made) < 0
        || (PyList_Size(batches) > REMEMBERED_BATCHES && PyList_SetSlice(batches, 0, 1, NULL) < 0);
    Py_XDECREF(made);
    return failed ? FAILED : FINE;
}

/* To where the producers that were seen last are. */
static int move_to_end(const Part *part)
{
    PyObject *entries = get(part->producers, N__entries);
    if (entries == NULL)
        return FAILED;
    PyObject *id = NULL, *moved = NULL;
    int is_alone = PyDict_Check(entries) && PyDict_GET_SIZE(entries) == 1;
    if (!is_alone && (id = PyLong_FromLongLong(part->producer_id)) != NULL)
        moved = PyObject_CallMethodOneArg(entries, interned[N_move_to_end], id);
    Py_DECREF(entries);
    Py_XDECREF(id);
    Py_XDECREF(moved);
    return is_alone || moved != NULL ? FINE : FAILED;
}

int remember_producer(Part *part, PyObject *known_batch, int64_t end_offset, int64_t now_ms)
{
    int64_t last_sequence = ((int64_t)part->base_sequence + part->count - 1) & INT32_MAX;
    const int64_t values[KNOWN_BATCH_FIELDS] = {part->end_offset, end_offset - 1, part->base_sequence, last_sequence, part->max_timestamp};
    PyObject *batches = get(part->entry, N_batches);
    int done = batches == NULL ? FAILED : remember_batch(batches, known_batch, values);
    Py_XDECREF(batches);
    if (done != FINE || set_int64(part->entry, N_last_seen_ms, now_ms) < 0 || set_int64(part->entry, N_last_timestamp, part->max_timestamp) < 0)
        return FAILED;
    return move_to_end(part);
}

static int append_integer(PyObject *positions, int name, int64_t value)
{
    PyObject *list = get(positions, name), *made = list == NULL ? NULL : PyLong_FromLongLong(value);
    int failed = made == NULL || PyList_Append(list, made) < 0;
    Py_XDECREF(made);
    Py_XDECREF(list);
    return failed ? FAILED : FINE;
}

/* The oldest half of the appends. */
static int forget_positions(PyObject *positions)
{
    static const int names[] = {N__appended, N__segments, N__positions};
    for (int i = 0; i < 3; i++) {
        PyObject *list = get(positions, names[i]);
        int failed = list == NULL || PyList_SetSlice(list, 0, POSITIONS_MAX / 2, NULL) < 0;
        Py_XDECREF(list);
        if (failed)
            return FAILED;
    }
    return FINE;
}

static int append_position(PyObject *positions, const Part *part, int64_t end_offset)
{
    PyObject *segments = get(positions, N__segments);
    Py_ssize_t count = segments == NULL ? -1 : PyList_Size(segments);
    int done = count < 0 ? FAILED : count == POSITIONS_MAX ? forget_positions(positions) : FINE;
    if (done == FINE)
        done = append_integer(positions, N__appended, end_offset);
    if (done == FINE)
        done = PyList_Append(segments, part->segment) < 0 ? FAILED : FINE;
    Py_XDECREF(segments);
    return done == FINE ? append_integer(positions, N__positions, part->position + part->size) : FAILED;
}

/* ``BatchPositions.note_appended``. */
static int note_position(Part *part, int64_t end_offset)
{
    PyObject *positions = get(part->log, N__positions);
    int done = positions == NULL ? FAILED : append_position(positions, part, end_offset);
    Py_XDECREF(positions);
    return done;
}

/* What is noted of a batch, or of a run of batches, as a whole. */
int note_end(Part *part, int64_t end_offset)
{
    if (set_int64(part->producers, N_map_end_offset, end_offset) < 0)
        return FAILED;
    TRY(note_position(part, end_offset));
    if (add_int64(part->segments, N_size_bytes, part->size) < 0 || add_int64(part->log, N_bytes_since_writeback, part->size) < 0)
        return FAILED;
    return set_int64(part->log, N_log_end_offset, end_offset) < 0 ? FAILED : FINE;
}

/* What ``writing._remember`` does for one batch. FAILED: a bug, and the append must be undone. */
int remember_part(Part *part, PyObject *known_batch, int64_t now_ms)
{
    int64_t end_offset = part->end_offset + part->count;
    if (set_int64(part->segment, N_size_bytes, part->position + part->size) < 0)
        return FAILED;
    TRY(note_batch(part, end_offset));
    TRY(note_segment(part, end_offset));
    if (part->entry != NULL)
        TRY(remember_producer(part, known_batch, end_offset, now_ms));
    return note_end(part, end_offset);
}
