/* The answer of a follower's fetch: which partitions have news, and the bytes. The twins are ``FollowerSide.answer``,
   ``Answer.add``, ``is_news`` and ``wire.fast_fetch``. */
#include "fetch.h"

#define FIXED_BYTES 40
#define TOPIC_BYTES 24
#define PARTITION_BYTES 56

/* -- what the answer tells, and what is remembered of that */

static int note_sent(const Look *look)
{
    for (int i = 0; i < look->count; i++) {
        const Read *read = &look->reads[i];
        int64_t high_watermark, sent;
        READ(read->leader, high_watermark, &high_watermark);
        READ(read->progress, high_watermark_sent, &sent);
        if (read->high_watermark == high_watermark && sent != high_watermark
            && set_int64(read->progress, N_high_watermark_sent, high_watermark) < 0)
            return FAILED;
    }
    return FINE;
}

/* ``is_news``, where nothing is wrong. */
static int is_news(const Read *read)
{
    int64_t high_watermark, log_start_offset;
    READ(read->asked, sent_high_watermark, &high_watermark);
    READ(read->asked, sent_log_start_offset, &log_start_offset);
    if (high_watermark != read->high_watermark && set_int64(read->asked, N_sent_high_watermark, read->high_watermark) < 0)
        return FAILED;
    if (log_start_offset != read->log_start_offset && set_int64(read->asked, N_sent_log_start_offset, read->log_start_offset) < 0)
        return FAILED;
    return read->size_bytes > 0 || high_watermark != read->high_watermark || log_start_offset != read->log_start_offset;
}

/* The follower has everything, and was told all: its fetches skip the partition until it changes. */
static int remember_quiet(const Look *look, const Read *read)
{
    int64_t end_offset, changes, known_epoch, known_end_offset, present_epoch;
    READ(read->log, log_end_offset, &end_offset);
    READ(read->partition, changes, &changes);
    READ(read->progress, log_end_offset, &known_end_offset);
    READ(read->progress, broker_epoch, &known_epoch);
    READ(look->presence, broker_epoch, &present_epoch);
    if (read->fetch_offset != end_offset || read->changes != changes || known_end_offset != end_offset || known_epoch != present_epoch)
        return FINE;
    if (PyObject_SetAttr(read->progress, interned[N_presence], look->presence) < 0
        || PyObject_SetAttr(read->asked, interned[N_quiet_at], read->partition) < 0
        || set_int64(read->asked, N_quiet_changes, read->changes) < 0)
        return FAILED;
    return FINE;
}

/* The follower's rack, "" where it has none; NULL with an exception. */
static PyObject *rack_of(const Look *look, PyObject *parts)
{
    PyObject *image = get(parts, N_image), *brokers = image == NULL ? NULL : get(image, N_brokers);
    PyObject *known = brokers == NULL ? NULL : PyObject_GetItem(brokers, look->broker);
    PyObject *registration = known == NULL ? NULL : get(known, N_registration);
    PyObject *rack = registration == NULL ? NULL : registration == Py_None ? Py_NewRef(Py_None) : get(registration, N_rack);
    Py_XDECREF(registration);
    Py_XDECREF(known);
    Py_XDECREF(brokers);
    Py_XDECREF(image);
    if (rack == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        rack = Py_NewRef(Py_None);
    }
    if (rack == Py_None)
        put_in(&rack, PyUnicode_FromString(""));
    return rack;
}

static int count_sent(const Look *look, const Read *read, PyObject *parts, PyObject *rack)
{
    PyObject *traffic = get(read->partition, N_traffic), *clients = traffic == NULL ? NULL : get(parts, N_client_traffic);
    PyObject *size = clients == NULL ? NULL : PyLong_FromSsize_t(read->size_bytes), *counted = NULL, *moved = NULL;
    if (size != NULL && add_int64(traffic, N_replication_bytes_out, read->size_bytes) == 0)
        counted = PyObject_CallMethodObjArgs(clients, interned[N_replicated], read->partition, size, rack, NULL);
    if (counted != NULL)
        moved = PyObject_CallMethodObjArgs(look->partitions, interned[N_move_to_end], read->key, NULL);
    int failed = moved == NULL;
    Py_XDECREF(moved);
    Py_XDECREF(counted);
    Py_XDECREF(size);
    Py_XDECREF(clients);
    Py_XDECREF(traffic);
    return failed ? FAILED : FINE;
}

/* Says for each read whether the answer names it. */
static int tell_reads(const Look *look, PyObject *parts, int *is_named)
{
    PyObject *rack = NULL;
    int done = FINE;
    for (int i = 0; done == FINE && i < look->count; i++) {
        const Read *read = &look->reads[i];
        is_named[i] = is_news(read);
        if (is_named[i] <= 0) {
            done = is_named[i] < 0 ? FAILED : remember_quiet(look, read);
        } else if (read->size_bytes > 0) {
            if (rack == NULL)
                rack = rack_of(look, parts);
            done = rack == NULL ? FAILED : count_sent(look, read, parts, rack);
        }
    }
    Py_XDECREF(rack);
    return done;
}

int settle_reads(const Look *look, PyObject *parts, int *is_named)
{
    TRY(note_sent(look));
    TRY(tell_reads(look, parts, is_named));
    for (int i = 0; i < look->count; i++) {
        PyObject *asked = look->reads[i].asked;
        int is_loud = is_object(asked, N_quiet_at, Py_None);
        if (is_loud < 0 || (is_loud && PyDict_SetItem(look->stirred, asked, Py_None) < 0))
            return FAILED;
    }
    return FINE;
}

/* -- the bytes */

typedef struct {
    const Look *look;
    const int *is_named;
    uint8_t *start, *at;
    /* Behind these places the records of these reads follow. */
    int cuts;
    uint8_t *places[READS_MAX];
    const Read *records[READS_MAX];
} Writer;

static void put_partition(Writer *writer, const Read *read)
{
    uint8_t *to = put16(put32(writer->at, (uint32_t)read->index), 0);
    to = put64(put64(put64(to, (uint64_t)read->high_watermark), (uint64_t)read->last_stable_offset), (uint64_t)read->log_start_offset);
    *to++ = 0; /* no aborted transactions */
    to = put32(to, UINT32_MAX); /* no preferred replica */
    to = put_compact(to, (uint32_t)read->size_bytes);
    if (read->size_bytes > 0) {
        writer->records[writer->cuts] = read;
        writer->places[writer->cuts++] = to;
    }
    *to++ = 0;
    writer->at = to;
}

static int is_of_topic(const Writer *writer, int which, const uint8_t *topic_id)
{
    return writer->is_named[which] && memcmp(writer->look->reads[which].topic_id, topic_id, UUID_BYTES) == 0;
}

static int is_first_of_topic(const Writer *writer, int which)
{
    int is_first = writer->is_named[which];
    for (int i = 0; is_first && i < which; i++)
        is_first = !is_of_topic(writer, i, writer->look->reads[which].topic_id);
    return is_first;
}

static void put_topic(Writer *writer, int first)
{
    const Look *look = writer->look;
    const uint8_t *topic_id = look->reads[first].topic_id;
    uint32_t count = 0;
    for (int i = first; i < look->count; i++)
        count += (uint32_t)is_of_topic(writer, i, topic_id);
    memcpy(writer->at, topic_id, UUID_BYTES);
    writer->at = put_compact(writer->at + UUID_BYTES, count);
    for (int i = first; i < look->count; i++)
        if (is_of_topic(writer, i, topic_id))
            put_partition(writer, &look->reads[i]);
    *writer->at++ = 0;
}

static int add_bytes(PyObject *buffers, const uint8_t *start, const uint8_t *end)
{
    PyObject *text = PyBytes_FromStringAndSize((const char *)start, end - start);
    int failed = text == NULL || PyList_Append(buffers, text) < 0;
    Py_XDECREF(text);
    return failed;
}

static PyObject *buffers_of(const Writer *writer)
{
    PyObject *buffers = PyList_New(0);
    const uint8_t *start = writer->start;
    int failed = buffers == NULL;
    for (int i = 0; !failed && i < writer->cuts; i++) {
        failed = add_bytes(buffers, start, writer->places[i]) || PyList_Append(buffers, writer->records[i]->records) < 0;
        start = writer->places[i];
    }
    if (failed || add_bytes(buffers, start, writer->at))
        Py_CLEAR(buffers);
    return buffers;
}

/* The reply as a list of buffers; NULL with an exception. */
PyObject *write_answer(const Look *look, const int *is_named, uint32_t correlation_id, int32_t session_id)
{
    uint8_t text[FIXED_BYTES + READS_MAX * (TOPIC_BYTES + PARTITION_BYTES)];
    Writer writer;
    writer.look = look;
    writer.is_named = is_named;
    writer.start = text;
    writer.cuts = 0;
    uint32_t topics = 0;
    Py_ssize_t records_bytes = 0;
    for (int i = 0; i < look->count; i++) {
        topics += (uint32_t)is_first_of_topic(&writer, i);
        records_bytes += is_named[i] ? look->reads[i].size_bytes : 0;
    }
    uint8_t *to = put32(text + 4, correlation_id);
    *to++ = 0;
    to = put16(put32(to, 0), 0); /* throttle time, error */
    writer.at = put_compact(put32(to, (uint32_t)session_id), topics);
    for (int i = 0; i < look->count; i++)
        if (is_first_of_topic(&writer, i))
            put_topic(&writer, i);
    *writer.at++ = 0;
    put32(text, (uint32_t)(writer.at - text - 4 + records_bytes));
    return buffers_of(&writer);
}
