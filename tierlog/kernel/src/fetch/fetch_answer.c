/* The answer of a follower's fetch: which partitions have news, and the bytes. The twins are ``FollowerSide.answer``,
   ``Answer.add``, ``is_news`` and ``wire.fast_fetch``. */
#include "fetch.h"

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
int is_news(const Read *read)
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
    if (set(read->progress, N_presence, look->presence) < 0
        || set(read->asked, N_quiet_at, read->partition) < 0
        || set_int64(read->asked, N_quiet_changes, read->changes) < 0)
        return FAILED;
    return FINE;
}

/* The follower's rack, "" where it has none; NULL with an exception. */
static PyObject *rack_of(const Look *look, PyObject *image)
{
    PyObject *brokers = get(image, N_brokers);
    PyObject *known = brokers == NULL ? NULL : PyObject_GetItem(brokers, look->broker);
    PyObject *registration = known == NULL ? NULL : get(known, N_registration);
    PyObject *rack = registration == NULL ? NULL : registration == Py_None ? Py_NewRef(Py_None) : get(registration, N_rack);
    Py_XDECREF(registration);
    Py_XDECREF(known);
    Py_XDECREF(brokers);
    if (rack == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        rack = Py_NewRef(Py_None);
    }
    if (rack == Py_None)
        put_in(&rack, PyUnicode_FromString(""));
    return rack;
}

/* ``FetchSession.put_last`` */
PyObject *put_last(const Look *look, const Read *read)
{
    int64_t place;
    if (get_int64(look->session, N__last_place, &place) < 0 || set_int64(look->session, N__last_place, place + 1) < 0
        || set_int64(read->asked, N_place, place + 1) < 0)
        return NULL;
    return PyObject_CallMethodObjArgs(look->partitions, interned[N_move_to_end], read->key, NULL);
}

static int count_sent(const Look *look, const Read *read, PyObject *parts, PyObject *rack)
{
    PyObject *traffic = get(read->partition, N_traffic), *clients = traffic == NULL ? NULL : get(parts, N_client_traffic);
    PyObject *size = clients == NULL ? NULL : PyLong_FromSsize_t(read->size_bytes), *counted = NULL, *moved = NULL;
    if (size != NULL && add_int64(traffic, N_replication_bytes_out, read->size_bytes) == 0)
        counted = PyObject_CallMethodObjArgs(clients, interned[N_replicated], read->partition, size, rack, NULL);
    int is_known = counted == NULL ? FAILED : PyDict_Contains(look->partitions, read->key);
    if (is_known == 0)
        moved = Py_NewRef(Py_None); /* it has left the session meanwhile */
    else if (is_known > 0)
        moved = put_last(look, read);
    int failed = moved == NULL;
    Py_XDECREF(moved);
    Py_XDECREF(counted);
    Py_XDECREF(size);
    Py_XDECREF(clients);
    Py_XDECREF(traffic);
    return failed ? FAILED : FINE;
}

/* Says for each read whether the answer names it. */
static int tell_reads(const Look *look, PyObject *parts, PyObject *image, int *is_named)
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
                rack = rack_of(look, image);
            done = rack == NULL ? FAILED : count_sent(look, read, parts, rack);
        }
    }
    Py_XDECREF(rack);
    return done;
}

int settle_reads(const Look *look, PyObject *parts, PyObject *image, int *is_named)
{
    TRY(note_sent(look));
    TRY(tell_reads(look, parts, image, is_named));
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
} Told;

static int is_of_topic(const Told *told, int which, const uint8_t *topic_id)
{
    return told->is_named[which] && memcmp(told->look->reads[which].topic_id, topic_id, UUID_BYTES) == 0;
}

static int is_first_of_topic(const Told *told, int which)
{
    int is_first = told->is_named[which];
    for (int i = 0; is_first && i < which; i++)
        is_first = !is_of_topic(told, i, told->look->reads[which].topic_id);
    return is_first;
}

static void put_topic(Writer *writer, const Told *told, int first)
{
    const Look *look = told->look;
    const uint8_t *topic_id = look->reads[first].topic_id;
    uint32_t count = 0;
    for (int i = first; i < look->count; i++)
        count += (uint32_t)is_of_topic(told, i, topic_id);
    put_topic_name(writer, topic_id, UUID_BYTES, 1, count);
    for (int i = first; i < look->count; i++)
        if (is_of_topic(told, i, topic_id))
            put_partition(writer, &look->reads[i]);
    put_no_tags(writer);
}

/* The reply as a list of buffers; NULL with an exception. */
PyObject *write_answer(const Look *look, const int *is_named, int version, uint32_t correlation_id, int32_t session_id, int is_committed_only)
{
    uint8_t text[FIXED_BYTES + READS_MAX * (TOPIC_BYTES + PARTITION_BYTES)];
    Writer writer;
    const Told told = {look, is_named};
    uint32_t topics = 0;
    for (int i = 0; i < look->count; i++)
        topics += (uint32_t)is_first_of_topic(&told, i);
    begin_reply(&writer, text, version, correlation_id, session_id, topics, is_committed_only);
    for (int i = 0; i < look->count; i++)
        if (is_first_of_topic(&told, i))
            put_topic(&writer, &told, i);
    return finished_reply(&writer);
}
