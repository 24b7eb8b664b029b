/* A consumer's fetch, from the leader's local log. One without a session changes nothing but counts, so at whatever is not for
   here the twin begins anew; for one of a session see fetch_session.c. The twin is ``broker.fetch.consumer_fetch``. */
#include "fetches.h"

#define NO_SESSION_EPOCH (-1)
#define READ_COMMITTED 1

static int add_named(Look *look, const FetchRequest *request, const Named *named, PyObject *by_name, PyObject *by_id)
{
    const FetchedTopic *topic = &request->topics[named->topic];
    int is_by_id = request->header.version >= FETCH_BY_ID_SINCE;
    PyObject *name = is_by_id ? PyBytes_FromStringAndSize((const char *)topic->name, topic->name_bytes)
                              : PyUnicode_FromStringAndSize((const char *)topic->name, topic->name_bytes);
    Read *read = &look->reads[look->count++];
    memset(read, 0, sizeof *read);
    read->key = name == NULL ? NULL : Py_BuildValue("(Ni)", name, (int)named->index);
    read->named = named;
    read->index = named->index;
    read->fetch_offset = named->fetch_offset;
    read->max_bytes = named->max_bytes;
    read->leader_epoch = named->leader_epoch;
    read->last_fetched_epoch = named->last_fetched_epoch;
    PyObject *partition = read->key == NULL ? NULL : PyDict_GetItemWithError(is_by_id ? by_id : by_name, read->key);
    read->partition = Py_XNewRef(partition);
    if (partition == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    for (int i = 0; i < look->count - 1; i++)
        if (look->reads[i].partition == partition)
            return NOT_FOR_HERE;
    return FINE;
}

static int check_led(Read *read)
{
    int64_t epoch;
    read->leader = get(read->partition, N_leader);
    read->log = get(read->partition, N_log);
    if (read->leader == NULL || read->log == NULL)
        return FAILED;
    if (read->leader == Py_None)
        return NOT_FOR_HERE;
    WANT(is_object(read->partition, N_offline, Py_None));
    READ(read->partition, leader_epoch, &epoch);
    return read->leader_epoch < 0 || read->leader_epoch == epoch;
}

/* No aborted transaction lies where the read does. */
static int is_all_committed(const Read *read)
{
    PyObject *start = PyLong_FromLongLong(read->fetch_offset), *end = PyLong_FromLongLong(read->last_stable_offset);
    PyObject *aborted = start == NULL || end == NULL
        ? NULL
        : PyObject_CallMethodObjArgs(read->log, interned[N_aborted_transactions], start, end, NULL);
    Py_ssize_t count = aborted == NULL ? -1 : PyObject_Size(aborted);
    Py_XDECREF(aborted);
    Py_XDECREF(start);
    Py_XDECREF(end);
    return count < 0 ? FAILED : count == 0;
}

int consume_one(Look *look, Read *read, int is_committed_only)
{
    int64_t end_offset;
    TRY(check_led(read));
    READ(read->leader, high_watermark, &read->high_watermark);
    READ(read->log, log_start_offset, &read->log_start_offset);
    READ(read->log, log_end_offset, &end_offset);
    READ(read->partition, changes, &read->changes);
    TRY(last_stable_offset(read));
    TRY(check_lineage(read));
    if (read->fetch_offset < read->log_start_offset || read->fetch_offset > end_offset)
        return NOT_FOR_HERE;
    int64_t readable = is_committed_only ? read->last_stable_offset : read->high_watermark;
    if (read->fetch_offset >= readable)
        return FINE;
    TRY(read_local(look, read, readable));
    return is_committed_only && read->size_bytes > 0 ? is_all_committed(read) : FINE;
}

static int has_distinct_topics(const FetchRequest *request)
{
    for (int i = 0; i < request->topics_count; i++) {
        const FetchedTopic *topic = &request->topics[i];
        if (topic->partitions == 0)
            return 0;
        for (int other = 0; other < i; other++)
            if (request->topics[other].name_bytes == topic->name_bytes
                && memcmp(request->topics[other].name, topic->name, (size_t)topic->name_bytes) == 0)
                return 0;
    }
    return request->topics_count > 0;
}

static int consume(Look *look, const FetchRequest *request, PyObject *by_name, PyObject *by_id)
{
    if (request->session_id != 0 || request->session_epoch != NO_SESSION_EPOCH || !has_distinct_topics(request))
        return NOT_FOR_HERE;
    for (int i = 0; i < request->named_count; i++) {
        TRY(add_named(look, request, &request->named[i], by_name, by_id));
        TRY(consume_one(look, &look->reads[i], request->isolation));
    }
    return FINE;
}

/* Adds to the tally that the connection keeps: 1 if it has one of the present table. */
static int add_to_tally(const Read *read, PyObject *clients, PyObject *connection)
{
    PyObject *own = get(connection, N_traffic), *table = own == NULL ? NULL : get(clients, N__table);
    int found = table == NULL ? FAILED : 0;
    if (found == 0 && own != Py_None) {
        PyObject *rack = get(own, N_rack), *kept = rack == NULL ? NULL : get(own, N_consumed);
        PyObject *topic_id = kept == NULL ? NULL : get(read->partition, N_topic_id);
        int is_present = topic_id == NULL ? FAILED : is_object(own, N_table, table);
        int has_rack = is_present == 1 ? PyObject_IsTrue(rack) : 0;
        PyObject *tally = is_present == 1 && has_rack == 0 ? PyDict_GetItemWithError(kept, topic_id) : NULL;
        if (tally != NULL)
            found = add_int64(tally, N_size_bytes, read->size_bytes) < 0 ? FAILED : 1;
        else if (PyErr_Occurred())
            found = FAILED;
        Py_XDECREF(topic_id);
        Py_XDECREF(kept);
        Py_XDECREF(rack);
    }
    Py_XDECREF(table);
    Py_XDECREF(own);
    return found;
}

static int count_one(const Read *read, const Header *header, PyObject *clients, PyObject *connection, PyObject *counts)
{
    PyObject *traffic = get(read->partition, N_traffic);
    int failed = traffic == NULL || add_int64(traffic, N_bytes_out, read->size_bytes) < 0;
    Py_XDECREF(traffic);
    int is_counted = failed ? FAILED : add_to_tally(read, clients, connection);
    if (is_counted != 0)
        return is_counted;
    PyObject *told = PyObject_CallFunction(counts, "Oz#On", connection, header->client_id_bytes < 0 ? NULL : (const char *)header->client_id,
                                           (Py_ssize_t)(header->client_id_bytes < 0 ? 0 : header->client_id_bytes), read->partition,
                                           read->size_bytes);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

/* ``counts(connection, client id, partition, size)`` begins a tally. */
int count_consumed(Fetches *self, const Read *read, PyObject *connection)
{
    PyObject *clients = get(self->parts, N_client_traffic);
    int done = clients == NULL ? FAILED : count_one(read, &self->request.header, clients, connection, self->counts);
    Py_XDECREF(clients);
    return done;
}

/* The reply as a list of buffers; NULL with an exception. */
static PyObject *consumed_reply(const Look *look, const FetchRequest *request)
{
    uint8_t text[FIXED_BYTES + NAMED_MAX * (TOPIC_BYTES + NAME_BYTES_MAX + PARTITION_BYTES)];
    Writer writer;
    const Read *read = look->reads;
    const Header *header = &request->header;
    begin_reply(&writer, text, header->version, header->correlation_id, 0, (uint32_t)request->topics_count,
                request->isolation);
    for (int i = 0; i < request->topics_count; i++) {
        const FetchedTopic *topic = &request->topics[i];
        put_topic_name(&writer, topic->name, topic->name_bytes, header->version >= FETCH_BY_ID_SINCE, (uint32_t)topic->partitions);
        for (int each = 0; each < topic->partitions; each++)
            put_partition(&writer, read++);
        put_no_tags(&writer);
    }
    return finished_reply(&writer);
}

static PyObject *partitions_of(const Look *look)
{
    PyObject *all = PyList_New(look->count);
    for (int i = 0; all != NULL && i < look->count; i++)
        if (PyList_SetItem(all, i, Py_NewRef(look->reads[i].partition)) < 0)
            Py_CLEAR(all);
    return all;
}

/* ``looked``: of a session what the fetch has looked at, else its partitions. True, or NULL with an exception. */
PyObject *park(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked, PyObject *watch)
{
    PyObject *done = PyObject_CallFunction(self->parks_consumer, "Oy#OOLid", connection, (const char *)frame, size, looked, watch,
                                           (long long)self->look.min_bytes, (int)self->request.max_wait_ms, arrival_s);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    Py_RETURN_TRUE;
}

static PyObject *park_without_session(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s)
{
    PyObject *partitions = partitions_of(&self->look);
    PyObject *done = partitions == NULL ? NULL : park(self, connection, frame, size, arrival_s, partitions, Py_None);
    Py_XDECREF(partitions);
    return done;
}

static int check_consumer(Fetches *self, PyObject *connection)
{
    const FetchRequest *request = &self->request;
    if (request->isolation > READ_COMMITTED)
        return NOT_FOR_HERE;
    WANT_NOT(is_throttled(self, connection));
    PyObject *config = get(self->parts, N_config);
    int found = config == NULL ? FAILED : set_budget(self, config, request->max_bytes, request->min_bytes);
    Py_XDECREF(config);
    return found;
}

static PyObject *serve_without_session(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, int has_waited)
{
    const FetchRequest *request = &self->request;
    Look *look = &self->look;
    int found = consume(look, request, self->by_name, self->by_id);
    int is_ready = has_waited || look->is_due || is_enough(look) || request->max_wait_ms <= 0;
    if (found == NOT_FOR_HERE || (found == FINE && !is_ready && (look->gathered_bytes > 0 || look->unsent_bytes > 0)))
        Py_RETURN_NONE;
    if (found == FINE && !is_ready)
        return park_without_session(self, connection, frame, size, arrival_s);
    for (int i = 0; found == FINE && i < look->count; i++)
        if (look->reads[i].size_bytes > 0)
            found = count_consumed(self, &look->reads[i], connection);
    if (found != FINE || record(self, request->header.version, arrival_s, !has_waited) != FINE)
        return NULL;
    return consumed_reply(look, request);
}

PyObject *serve_consumer(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked)
{
    int found = check_consumer(self, connection);
    if (found != FINE)
        return found == FAILED ? NULL : Py_NewRef(Py_None);
    if (self->request.session_id != 0)
        return serve_session(self, connection, frame, size, arrival_s, looked);
    return serve_without_session(self, connection, frame, size, arrival_s, looked != NULL);
}
