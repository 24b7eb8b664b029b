/* What a partition's local log has for a fetch: which batches, and their bytes. The twins are ``Look.local`` and
   ``log.reading.locate``; what is not in the page cache is not for here. */
#include "fetch.h"

/* As ``BatchPositions`` has it. */
#define READ_PLACES_MAX 64

/* Notes what a locate has found: (descriptor, position, size, next offset). */
static int note_located(Look *look, PyObject *located, const Read *read, int64_t end_offset, int64_t active_base_offset, int64_t budget,
                        int64_t *size)
{
    int64_t next_offset;
    PyObject *size_bytes = PyTuple_GetItem(located, 2), *next = size_bytes == NULL ? NULL : PyTuple_GetItem(located, 3);
    if (next == NULL || as_int64(size_bytes, size) < 0 || as_int64(next, &next_offset) < 0)
        return FAILED;
    if (next_offset < end_offset) {
        if (read->fetch_offset < active_base_offset)
            look->is_due = 1;
        else if (*size < budget)
            look->unsent_bytes += budget - *size;
    }
    return FINE;
}

/* Where an append ended; most readers ask for one of the last. ``segment`` is borrowed from the table. */
static int find_appended(PyObject *positions, int64_t offset, PyObject **segment, int64_t *position)
{
    int64_t end_offset = -1;
    PyObject *ends = get(positions, N__appended), *segments = ends == NULL ? NULL : get(positions, N__segments);
    PyObject *places = segments == NULL ? NULL : get(positions, N__positions);
    Py_ssize_t at = places == NULL ? -1 : PyList_Size(ends);
    int found = at < 0 ? FAILED : NOT_FOR_HERE;
    while (found == NOT_FOR_HERE && --at >= 0) {
        if (as_int64(PyList_GET_ITEM(ends, at), &end_offset) < 0)
            found = FAILED;
        if (end_offset <= offset)
            break;
    }
    if (found == NOT_FOR_HERE && at >= 0 && end_offset == offset) {
        *segment = PyList_GetItem(segments, at);
        PyObject *place = *segment == NULL ? NULL : PyList_GetItem(places, at);
        found = place == NULL || as_int64(place, position) < 0 ? FAILED : FINE;
    }
    Py_XDECREF(places);
    Py_XDECREF(segments);
    Py_XDECREF(ends);
    return found;
}

/* ``BatchPositions.get``: a remembered batch boundary. ``segment`` is borrowed from the tables. */
static int find_place(PyObject *positions, PyObject *offset, PyObject **segment, int64_t *position)
{
    int64_t wanted;
    if (as_int64(offset, &wanted) < 0)
        return FAILED;
    int found = find_appended(positions, wanted, segment, position);
    if (found != NOT_FOR_HERE)
        return found;
    PyObject *table = get(positions, N__read), *place = table == NULL ? NULL : PyDict_GetItemWithError(table, offset);
    Py_XDECREF(table);
    if (place == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    *segment = PyTuple_GetItem(place, 0);
    return *segment == NULL || as_int64(PyTuple_GetItem(place, 1), position) < 0 ? FAILED : FINE;
}

/* ``BatchPositions.note_read`` */
static int note_read_to(PyObject *positions, PyObject *offset, PyObject *segment, int64_t position)
{
    PyObject *table = get(positions, N__read), *place = table == NULL ? NULL : Py_BuildValue("(OL)", segment, (long long)position), *oldest;
    Py_ssize_t at = 0;
    int failed = place == NULL || PyDict_SetItem(table, offset, place) < 0;
    if (!failed && PyDict_Size(table) > READ_PLACES_MAX && PyDict_Next(table, &at, &oldest, NULL)) {
        Py_INCREF(oldest);
        failed = PyDict_DelItem(table, oldest) < 0;
        Py_DECREF(oldest);
    }
    Py_XDECREF(place);
    Py_XDECREF(table);
    return failed ? FAILED : FINE;
}

/* The ends of what a read of the active segment takes. */
typedef struct {
    PyObject *positions, *segment, *next; /* strong, strong, strong */
    int64_t position, limit;
} Span;

static int find_span(const Look *look, const Read *read, PyObject *active, int64_t budget, int64_t end_offset, Span *span)
{
    int64_t log_end_offset, size_bytes, segment_end_offset;
    PyObject *segment = NULL, *offset = PyLong_FromLongLong(read->fetch_offset);
    span->positions = offset == NULL ? NULL : get(read->log, N__positions);
    int found = span->positions == NULL ? FAILED : find_place(span->positions, offset, &segment, &span->position);
    Py_XDECREF(offset);
    TRY(found);
    if (segment != active)
        return NOT_FOR_HERE;
    span->segment = Py_NewRef(segment);
    READ(read->log, log_end_offset, &log_end_offset);
    READ(segment, size_bytes, &size_bytes);
    READ(segment, end_offset, &segment_end_offset);
    if (end_offset > log_end_offset)
        end_offset = log_end_offset;
    span->limit = size_bytes;
    if (read->fetch_offset >= end_offset || span->position >= size_bytes)
        return NOT_FOR_HERE;
    span->next = PyLong_FromLongLong(end_offset < segment_end_offset ? end_offset : segment_end_offset);
    if (span->next == NULL)
        return FAILED;
    if (end_offset < segment_end_offset)
        TRY(find_place(span->positions, span->next, &segment, &span->limit));
    return segment == active && span->limit > span->position && span->limit - span->position <= budget && span->limit <= size_bytes;
}

/* ``Log.locate`` where both ends are remembered and lie in the active segment, and all between them may be read. */
static int locate_at_once(const Look *look, const Read *read, PyObject *active, int64_t budget, int64_t end_offset, PyObject **located)
{
    Span span = {NULL, NULL, NULL, 0, 0};
    PyObject *descriptor = NULL;
    int found = find_span(look, read, active, budget, end_offset, &span);
    if (found == FINE && (descriptor = get(span.segment, N__descriptor)) == NULL)
        found = FAILED;
    if (found == FINE && descriptor == Py_None)
        found = NOT_FOR_HERE;
    if (found == FINE)
        found = note_read_to(span.positions, span.next, span.segment, span.limit);
    if (found == FINE) {
        PyObject *fields[] = {Py_NewRef(descriptor), PyLong_FromLongLong(span.position), PyLong_FromLongLong(span.limit - span.position),
                              Py_NewRef(span.next)};
        *located = tuple_of(look->slice_type, fields, 4);
        found = *located == NULL ? FAILED : FINE;
    }
    Py_XDECREF(descriptor);
    Py_XDECREF(span.next);
    Py_XDECREF(span.segment);
    Py_XDECREF(span.positions);
    return found;
}

static PyObject *locate(const Look *look, const Read *read, PyObject *active, int64_t budget, int64_t end_offset, int takes_one)
{
    PyObject *at_once = NULL;
    int found = locate_at_once(look, read, active, budget, end_offset, &at_once);
    if (found != NOT_FOR_HERE)
        return found == FINE ? at_once : NULL;
    PyObject *offset = PyLong_FromLongLong(read->fetch_offset), *most = PyLong_FromLongLong(budget), *end = PyLong_FromLongLong(end_offset);
    PyObject *located = offset == NULL || most == NULL || end == NULL
        ? NULL
        : PyObject_CallMethodObjArgs(read->log, interned[N_locate], offset, most, end, takes_one ? Py_True : Py_False, NULL);
    Py_XDECREF(offset);
    Py_XDECREF(most);
    Py_XDECREF(end);
    return located;
}

static int find_active(PyObject *log, PyObject **active, int64_t *base_offset)
{
    PyObject *segments = get(log, N_segments), *list = segments == NULL ? NULL : get(segments, N__list);
    Py_ssize_t count = list == NULL ? -1 : PyList_Size(list);
    *active = count > 0 ? Py_NewRef(PyList_GetItem(list, count - 1)) : NULL;
    int failed = *active == NULL || get_int64(*active, N_base_offset, base_offset) < 0;
    Py_XDECREF(list);
    Py_XDECREF(segments);
    return failed ? (PyErr_Occurred() ? FAILED : NOT_FOR_HERE) : FINE;
}

/* What fails here, the twin meets again, and says what it is. */
static int not_here(void)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception))
        return FAILED;
    PyErr_Clear();
    return NOT_FOR_HERE;
}

static int take_located(Look *look, Read *read, PyObject *located, int64_t end_offset, int64_t active_base_offset, int64_t budget)
{
    int64_t size = 0;
    int done = note_located(look, located, read, end_offset, active_base_offset, budget, &size);
    if (done == FINE && size > 0) {
        read->records = PyObject_CallMethodObjArgs(read->log, interned[N_read_nowait], located, NULL);
        read->size_bytes = read->records == NULL || read->records == Py_None ? -1 : PyObject_Size(read->records);
        done = read->size_bytes < 0 ? not_here() : FINE;
    }
    look->taken_bytes += size;
    if (done == FINE)
        look->gathered_bytes += read->size_bytes;
    return done;
}

static int read_behind(Look *look, Read *read, PyObject *active, int64_t active_base_offset, int64_t budget, int64_t end_offset)
{
    if (read->fetch_offset < active_base_offset) {
        int64_t local_start_offset;
        READ(read->log, local_log_start_offset, &local_start_offset);
        if (read->fetch_offset < local_start_offset)
            return NOT_FOR_HERE;
    }
    PyObject *located = locate(look, read, active, budget, end_offset, look->taken_bytes == 0);
    if (located == NULL)
        return not_here();
    int done = located == Py_None ? FINE : take_located(look, read, located, end_offset, active_base_offset, budget);
    Py_DECREF(located);
    return done;
}

/* ``Look.local``: takes batches below the end. */
int read_local(Look *look, Read *read, int64_t end_offset)
{
    int64_t left = look->max_bytes > look->taken_bytes ? look->max_bytes - look->taken_bytes : 0, base_offset = 0;
    int64_t budget = read->max_bytes < left ? read->max_bytes : left;
    PyObject *active = NULL;
    if (budget <= 0 && look->taken_bytes > 0)
        return FINE;
    int done = find_active(read->log, &active, &base_offset);
    if (done == FINE)
        done = read_behind(look, read, active, base_offset, budget, end_offset);
    Py_XDECREF(active);
    return done;
}
