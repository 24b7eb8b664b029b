/* Records of many batches to the buffers of Arrow columns, in one pass over each batch while it lies in the cache.

   A batch is taken as a whole or not at all: what it has written is forgotten when it turns out to be unusual, or when there
   is no room for all of it. The caller knows by the answer, and finds in ``tally`` how much there is. */
#include "selection.h"

#define LOG_APPEND_TIME_BIT 0x08
#define RECORD_BYTES_MIN 7
#define NO_TIMESTAMP (-1)
/* Beyond it a sum with another such number could pass 64 bits. */
#define TIME_MAX ((int64_t)1 << 61)
#define COPY_BYTES 16

/* Why a step ended. */
enum { ENDED, FULL, LACKS_BODY, UNUSUAL };

/* Columns ---------------------------------------------------------------------------------------------------------- */

/* The buffers of the columns, in this order; one that is not there is not wanted. */
enum {
    OFFSET,
    TIMESTAMP,
    TIMESTAMP_VALID, /* a bit each, as in Arrow */
    TIMESTAMP_TYPE,
    LEADER_EPOCH,
    KEY, /* offsets, data, validity: so for all of these */
    VALUE = KEY + 3,
    LISTS = VALUE + 3,
    NAME = LISTS + 1,
    CONTENT = NAME + 3,
    COLUMNS = CONTENT + 3
};

/* How much there is, as int64 for the caller. */
struct tally {
    int64_t rows, timestamp_nulls, next_offset, batches;
    int64_t key_bytes, key_nulls, value_bytes, value_nulls;
    int64_t headers, name_bytes, content_bytes, content_nulls;
};

/* A column of strings: of ``items_max`` items, and ``bytes_max`` bytes; without ``offsets`` it is not wanted. */
struct strings {
    int32_t *offsets;
    uint8_t *data, *valid;
    int64_t items_max, bytes_max, bytes, nulls;
};

struct output {
    int64_t *offset, *timestamp;
    uint8_t *timestamp_valid;
    int8_t *timestamp_type;
    int32_t *leader_epoch, *lists;
    struct strings key, value, name, content;
    int64_t rows, rows_max, headers, headers_max, timestamp_nulls;
};

static inline void set_bit(uint8_t *bits, int64_t at, int is_set)
{
    uint8_t *byte = bits + (at >> 3);
    int bit = at & 7;
    *byte = (uint8_t)((bit ? *byte & ((1 << bit) - 1) : 0) | is_set << bit);
}

/* Short strings are copied as one piece of fixed size, where that stays inside of both buffers. */
static inline void copy(uint8_t *to, int64_t to_room, const uint8_t *from, int64_t size, const uint8_t *from_end)
{
    if (size <= COPY_BYTES && from_end - from >= COPY_BYTES && to_room >= COPY_BYTES)
        memcpy(to, from, COPY_BYTES);
    else if (size)
        memcpy(to, from, (size_t)size);
}

/* Whether there was room. A negative size is null. */
static inline int append(struct strings *column, int64_t item, const uint8_t *from, int64_t size, const uint8_t *from_end)
{
    if (column->offsets == NULL)
        return 1;
    int64_t bytes = column->bytes;
    if (size >= 0) {
        if (size > column->bytes_max - bytes)
            return 0;
        copy(column->data + bytes, column->bytes_max - bytes, from, size, from_end);
        column->bytes = bytes + size;
    } else {
        column->nulls++;
    }
    if (column->valid != NULL)
        set_bit(column->valid, item, size >= 0);
    column->offsets[item + 1] = (int32_t)column->bytes;
    return 1;
}

/* Records ---------------------------------------------------------------------------------------------------------- */

/* Whether a number of at most nine bytes begins at ``*at``. */
static inline int varint(const uint8_t **at, const uint8_t *end, int64_t *value)
{
    const uint8_t *byte = *at;
    if (byte >= end)
        return 0;
    uint64_t number = *byte++;
    if (number >= 0x80) {
        number &= 0x7f;
        for (int shift = 7;; shift += 7) {
            if (byte >= end || shift > 56)
                return 0;
            uint64_t next = *byte++;
            number |= (next & 0x7f) << shift;
            if (next < 0x80)
                break;
        }
    }
    *value = (int64_t)(number >> 1) ^ -(int64_t)(number & 1);
    *at = byte;
    return 1;
}

/* Text as Python's strict decoder takes it: shortest forms, no surrogates, up to U+10FFFF. */
static int is_utf8(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        uint8_t lead = *at++;
        if (lead < 0x80)
            continue;
        int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || end - at < more)
            return 0;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high)
            return 0;
        for (at++; --more; at++)
            if ((*at & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

struct batch {
    int64_t base_offset, base_timestamp, max_timestamp;
    int32_t last_delta, leader_epoch;
    int is_stamped;
};

/* The headers of one record fill [at, end). Names are checked whether or not anyone wants them. */
static int take_headers(struct output *out, const uint8_t *at, const uint8_t *end, const uint8_t *body_end, int is_wanted)
{
    int64_t count, size;
    if (!varint(&at, end, &count) || count < 0 || count > (end - at) / 2)
        return UNUSUAL;
    while (count--) {
        if (!varint(&at, end, &size) || size < 0 || size > end - at || !is_utf8(at, at + size))
            return UNUSUAL;
        const uint8_t *name = at;
        int64_t name_bytes = size;
        at += size;
        if (!varint(&at, end, &size) || size > end - at)
            return UNUSUAL;
        if (is_wanted) {
            if (out->headers >= out->headers_max || !append(&out->name, out->headers, name, name_bytes, body_end)
                || !append(&out->content, out->headers, at, size, body_end))
                return FULL;
            out->headers++;
        }
        at += size > 0 ? size : 0;
    }
    return at == end ? ENDED : UNUSUAL;
}

static inline int take_record(
    struct output *out, const struct batch *batch, const struct selection *selection, const uint8_t **from,
    const uint8_t *body_end)
{
    const uint8_t *at = *from;
    int64_t size, time_delta, offset_delta, key_bytes, value_bytes;
    if (!varint(&at, body_end, &size) || size < 1 || size > body_end - at)
        return UNUSUAL;
    const uint8_t *end = at + size;
    at++; /* attributes: none are defined */
    if (!varint(&at, end, &time_delta) || time_delta > TIME_MAX || time_delta < -TIME_MAX
        || !varint(&at, end, &offset_delta) || offset_delta < 0 || offset_delta > batch->last_delta
        || !varint(&at, end, &key_bytes) || key_bytes < -1 || key_bytes > end - at)
        return UNUSUAL;
    const uint8_t *key = at;
    at += key_bytes > 0 ? key_bytes : 0;
    if (!varint(&at, end, &value_bytes) || value_bytes < -1 || value_bytes > end - at)
        return UNUSUAL;
    const uint8_t *value = at;
    at += value_bytes > 0 ? value_bytes : 0;
    int64_t offset = batch->base_offset + offset_delta, row = out->rows;
    int is_wanted = offset >= selection->start_offset && offset < selection->end_offset;
    if (is_wanted && row >= out->rows_max)
        return FULL;
    if (end - at != 1 || *at != 0) {
        int why = take_headers(out, at, end, body_end, is_wanted && out->lists != NULL);
        if (why != ENDED)
            return why;
    }
    *from = end;
    if (!is_wanted)
        return ENDED;
    if (out->offset != NULL)
        out->offset[row] = offset;
    if (out->timestamp != NULL) {
        int64_t timestamp = batch->is_stamped ? batch->max_timestamp : batch->base_timestamp + time_delta;
        out->timestamp[row] = timestamp;
        set_bit(out->timestamp_valid, row, timestamp != NO_TIMESTAMP);
        out->timestamp_nulls += timestamp == NO_TIMESTAMP;
    }
    if (out->timestamp_type != NULL)
        out->timestamp_type[row] = (int8_t)batch->is_stamped;
    if (out->leader_epoch != NULL)
        out->leader_epoch[row] = batch->leader_epoch;
    if (!append(&out->key, row, key, key_bytes, body_end) || !append(&out->value, row, value, value_bytes, body_end))
        return FULL;
    if (out->lists != NULL)
        out->lists[row + 1] = (int32_t)out->headers;
    out->rows = row + 1;
    return ENDED;
}

/* All records of a body, or none. */
static int take_batch(
    struct output *out, const struct selection *selection, const uint8_t *head, const uint8_t *body, int64_t body_bytes)
{
    int64_t count = int32_at(head + COUNT_AT);
    struct batch batch = {
        .base_offset = int64_at(head),
        .base_timestamp = int64_at(head + BASE_TIMESTAMP_AT),
        .max_timestamp = int64_at(head + MAX_TIMESTAMP_AT),
        .last_delta = int32_at(head + LAST_OFFSET_DELTA_AT),
        .leader_epoch = int32_at(head + LEADER_EPOCH_AT),
        .is_stamped = (head[ATTRIBUTES_AT + 1] & LOG_APPEND_TIME_BIT) != 0,
    };
    if (count * RECORD_BYTES_MIN > body_bytes || batch.base_timestamp > TIME_MAX || batch.base_timestamp < -TIME_MAX)
        return UNUSUAL;
    struct output before = *out;
    const uint8_t *at = body, *end = body + body_bytes;
    int why = ENDED;
    while (count-- && why == ENDED)
        why = take_record(out, &batch, selection, &at, end);
    if (why == ENDED && at != end)
        why = UNUSUAL;
    if (why != ENDED)
        *out = before;
    return why;
}

/* What crosses over from Python ------------------------------------------------------------------------------------ */

struct body {
    const uint8_t *bytes;
    Py_ssize_t size;
};

static int64_t fits(int64_t a, int64_t b) { return a < b ? a : b; }

/* Offsets, data and validity; the last one may be absent. Returns how many strings there is room for. */
static int64_t lay_strings(struct strings *column, const Py_buffer *buffers, int64_t bytes, int64_t nulls)
{
    if (buffers[0].buf == NULL || buffers[0].len < 4)
        return INT32_MAX;
    column->offsets = buffers[0].buf;
    column->offsets[0] = 0;
    column->data = buffers[1].buf;
    column->valid = buffers[2].buf;
    column->items_max = fits(buffers[0].len / 4 - 1, column->valid == NULL ? INT32_MAX : 8 * (int64_t)buffers[2].len);
    column->bytes_max = fits(buffers[1].len, INT32_MAX);
    column->bytes = bytes;
    column->nulls = nulls;
    return column->items_max;
}

static int is_filled(const struct strings *column) { return column->bytes >= 0 && column->bytes <= column->bytes_max; }

/* Whether what there is of the columns fits into their buffers. */
static int lay_out(struct output *out, const Py_buffer *buffers, const struct tally *tally)
{
    memset(out, 0, sizeof *out);
    int64_t rows_max = INT32_MAX;
#define LAID(column, number, bytes_each) \
    if (buffers[number].buf != NULL) { \
        out->column = buffers[number].buf; \
        rows_max = fits(rows_max, buffers[number].len / (bytes_each)); \
    }
    LAID(offset, OFFSET, 8)
    LAID(timestamp, TIMESTAMP, 8)
    LAID(timestamp_type, TIMESTAMP_TYPE, 1)
    LAID(leader_epoch, LEADER_EPOCH, 4)
    LAID(lists, LISTS, 4)
#undef LAID
    if (out->timestamp != NULL) {
        out->timestamp_valid = buffers[TIMESTAMP_VALID].buf;
        rows_max = fits(rows_max, 8 * (int64_t)buffers[TIMESTAMP_VALID].len);
    }
    rows_max = fits(rows_max, lay_strings(&out->key, buffers + KEY, tally->key_bytes, tally->key_nulls));
    rows_max = fits(rows_max, lay_strings(&out->value, buffers + VALUE, tally->value_bytes, tally->value_nulls));
    int64_t headers_max = fits(lay_strings(&out->name, buffers + NAME, tally->name_bytes, 0),
        lay_strings(&out->content, buffers + CONTENT, tally->content_bytes, tally->content_nulls));
    if (out->lists != NULL) {
        if (out->name.offsets == NULL || out->content.offsets == NULL || buffers[LISTS].len < 4)
            return 0;
        out->lists[0] = 0;
        rows_max = fits(rows_max, buffers[LISTS].len / 4 - 1);
    }
    out->rows_max = rows_max;
    out->headers_max = headers_max;
    out->rows = tally->rows;
    out->headers = tally->headers;
    out->timestamp_nulls = tally->timestamp_nulls;
    return tally->rows >= 0 && tally->rows <= rows_max && tally->headers >= 0 && tally->headers <= headers_max
        && is_filled(&out->key) && is_filled(&out->value) && is_filled(&out->name) && is_filled(&out->content);
}

static void tell(const struct output *out, struct tally *tally)
{
    tally->rows = out->rows;
    tally->timestamp_nulls = out->timestamp_nulls;
    tally->key_bytes = out->key.bytes;
    tally->key_nulls = out->key.nulls;
    tally->value_bytes = out->value.bytes;
    tally->value_nulls = out->value.nulls;
    tally->headers = out->headers;
    tally->name_bytes = out->name.bytes;
    tally->content_bytes = out->content.bytes;
    tally->content_nulls = out->content.nulls;
}

/* Pointers to the bytes of a tuple, which stay while the tuple does; NULL with an error set. */
static struct body *bodies_of(PyObject *bodies, Py_ssize_t *count)
{
    *count = PyTuple_Size(bodies);
    struct body *found = PyMem_Malloc(((size_t)*count + 1) * sizeof *found);
    if (found == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < *count; i++) {
        char *bytes;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(bodies, i), &bytes, &found[i].size) < 0) {
            PyMem_Free(found);
            return NULL;
        }
        found[i].bytes = (const uint8_t *)bytes;
    }
    return found;
}

/* Batches of [at, end) until something ends it; ``*at`` is the first that is not taken. */
static int take_batches(
    struct output *out, struct tally *tally, struct selection *selection, const uint8_t *data, Py_ssize_t *at, Py_ssize_t end,
    const struct body *bodies, Py_ssize_t bodies_count, Py_ssize_t *used)
{
    while (*at < end) {
        const uint8_t *head = data + *at;
        Py_ssize_t size = whole_size(head, end - *at);
        if (size == 0)
            return UNUSUAL;
        int chosen = choose(selection, head, *at);
        if (chosen == BEYOND)
            *at = end;
        if (chosen == BEYOND || chosen == ODD)
            return chosen == ODD ? UNUSUAL : ENDED;
        if (chosen == TAKE) {
            struct body body = {head + HEADER_BYTES, size - HEADER_BYTES};
            if (is_compressed(head)) {
                if (*used == bodies_count)
                    return LACKS_BODY;
                body = bodies[*used];
            } else if (!has_good_crc(head, size)) {
                return UNUSUAL;
            }
            int why = take_batch(out, selection, head, body.bytes, body.size);
            if (why != ENDED)
                return why;
            *used += is_compressed(head) != 0;
            tally->batches++;
            tally->next_offset = int64_at(head) + int32_at(head + LAST_OFFSET_DELTA_AT) + 1;
        }
        *at += size;
    }
    return ENDED;
}

/* The buffers of a tuple that holds one or None for each column. Returns how many were taken, all or fewer with an error. */
static int buffers_of(PyObject *columns, Py_buffer *buffers)
{
    memset(buffers, 0, COLUMNS * sizeof *buffers);
    if (PyTuple_Size(columns) != COLUMNS) {
        PyErr_SetString(PyExc_ValueError, "not one buffer for each column");
        return 0;
    }
    for (int i = 0; i < COLUMNS; i++) {
        PyObject *column = PyTuple_GetItem(columns, i);
        if (column != Py_None && PyObject_GetBuffer(column, &buffers[i], PyBUF_WRITABLE) < 0)
            return i;
        if ((uintptr_t)buffers[i].buf % 8) {
            PyErr_SetString(PyExc_ValueError, "a buffer that is not aligned");
            return i + 1;
        }
    }
    return COLUMNS;
}

/* columns(data, start, end, bodies, start_offset, end_offset, left_out, columns, tally) -> (stop, why, bodies used) */
static PyObject *columns(PyObject *module, PyObject *args)
{
    Py_buffer data, left_out, tally, buffers[COLUMNS];
    Py_ssize_t at, end, bodies_count, used = 0;
    long long start_offset, end_offset;
    PyObject *bodies, *outputs, *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*nnO!LLy*O!w*", &data, &at, &end, &PyTuple_Type, &bodies, &start_offset, &end_offset,
            &left_out, &PyTuple_Type, &outputs, &tally))
        return NULL;
    int taken = buffers_of(outputs, buffers), why;
    struct body *opened = PyErr_Occurred() ? NULL : bodies_of(bodies, &bodies_count);
    if (opened == NULL || !is_within(at, end, data.len))
        goto done;
    struct output out;
    struct tally told;
    if (tally.len != sizeof told) {
        PyErr_SetString(PyExc_ValueError, "a tally of another size");
        goto done;
    }
    memcpy(&told, tally.buf, sizeof told);
    if (!lay_out(&out, buffers, &told)) {
        PyErr_SetString(PyExc_ValueError, "the buffers do not hold what they should");
        goto done;
    }
    struct selection selection = selected(start_offset, end_offset, &left_out);
    Py_BEGIN_ALLOW_THREADS
    why = take_batches(&out, &told, &selection, data.buf, &at, end, opened, bodies_count, &used);
    Py_END_ALLOW_THREADS
    tell(&out, &told);
    memcpy(tally.buf, &told, sizeof told);
    answer = Py_BuildValue("(nin)", at, why, used);
done:
    PyMem_Free(opened);
    while (taken--)
        if (buffers[taken].obj != NULL)
            PyBuffer_Release(&buffers[taken]);
    PyBuffer_Release(&data);
    PyBuffer_Release(&left_out);
    PyBuffer_Release(&tally);
    return answer;
}

PyMethodDef columns_methods[] = {
    {"columns", columns, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int add_reasons(PyObject *module)
{
    return PyModule_AddIntMacro(module, ENDED) < 0 || PyModule_AddIntMacro(module, FULL) < 0
            || PyModule_AddIntMacro(module, LACKS_BODY) < 0 || PyModule_AddIntMacro(module, UNUSUAL) < 0
        ? -1
        : 0;
}
