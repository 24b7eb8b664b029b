/* A follower's next Fetch request of version 17: ``FetchSchedule``'s round, and ``Follower.next_fetch`` for each partition that
   it names.

   Where a partition has to wait, or leaves the session, the round is not for here, and nothing was changed. */
#include "follow.h"

#define FETCH 1
#define FETCH_VERSION 17
#define FIXED_BYTES 96
#define TOPIC_BYTES 32
#define PARTITION_BYTES 40
#define FETCH_FIELDS 6
#define NONE (-1)

/* A partition that is asked for. References are strong. */
typedef struct {
    PyObject *key, *followed, *follower, *fetch;
    const uint8_t *topic_id;
    int32_t index;
    int64_t leader_epoch, end_offset, last_epoch, log_start_offset;
    int next, last, count; /* The next one of its topic; of a topic's first one: the last one, and how many they are. */
    int next_topic;        /* Of a topic's first one: the next topic's. */
} Asked;

typedef struct {
    PyObject *stirred, *in_session, *disk_waits, *forgotten;
    int64_t session_id, session_epoch;
    int count, topics;
    Asked *asked;
} Round;

static void release_round(Round *round)
{
    for (int i = 0; i < round->count; i++) {
        Py_XDECREF(round->asked[i].key);
        Py_XDECREF(round->asked[i].followed);
        Py_XDECREF(round->asked[i].follower);
        Py_XDECREF(round->asked[i].fetch);
    }
    PyMem_Free(round->asked);
    Py_XDECREF(round->stirred);
    Py_XDECREF(round->in_session);
    Py_XDECREF(round->disk_waits);
    Py_XDECREF(round->forgotten);
}

/* ``fetches.last_epoch_of``, where the latest epoch of the lineage wrote the last record. */
static int find_last_epoch(PyObject *log, Asked *asked)
{
    asked->last_epoch = NONE;
    if (asked->end_offset <= asked->log_start_offset)
        return FINE;
    PyObject *lineage = get(log, N_epochs), *epochs = NULL, *starts = NULL;
    int found = FAILED;
    if (lineage != NULL && (epochs = get(lineage, N__epochs)) != NULL && (starts = get(lineage, N__starts)) != NULL) {
        Py_ssize_t count = PyList_Size(epochs);
        PyObject *epoch = count > 0 ? PyList_GetItem(epochs, count - 1) : NULL;
        PyObject *start = epoch == NULL ? NULL : PyList_GetItem(starts, count - 1);
        int64_t start_offset;
        if (count == 0)
            found = FINE;
        else if (start != NULL && as_int64(epoch, &asked->last_epoch) == 0 && as_int64(start, &start_offset) == 0)
            found = start_offset < asked->end_offset;
    }
    Py_XDECREF(starts);
    Py_XDECREF(epochs);
    Py_XDECREF(lineage);
    return found;
}

/* Nothing of the partition has to wait. */
static int check_partition(PyObject *partition, PyObject *log, Asked *asked)
{
    int64_t pending_cut, recovery_point;
    WANT(is_object(partition, N_offline, Py_None));
    WANT_NOT(is_true(partition, N_follower_throttled));
    READ(partition, pending_cut, &pending_cut);
    if (pending_cut != 0)
        return NOT_FOR_HERE;
    READ(log, log_end_offset, &asked->end_offset);
    READ(log, log_start_offset, &asked->log_start_offset);
    int is_flushed_first = is_true(partition, N_flush_acks);
    if (is_flushed_first != 0) {
        WANT(is_flushed_first);
        READ(log, recovery_point, &recovery_point);
        if (recovery_point < asked->end_offset)
            return NOT_FOR_HERE;
    }
    return find_last_epoch(log, asked);
}

/* ``Follower.next_fetch`` */
static int check_follower(const Follow *follow, Asked *asked, int64_t now_ms)
{
    PyObject *follower = asked->follower;
    int64_t leader_id, retry_ms, broker_id, broker_epoch;
    if (follower == Py_None)
        return NOT_FOR_HERE;
    READ(follower, leader_id, &leader_id);
    if (leader_id != follow->source_id)
        return NOT_FOR_HERE;
    WANT(is_object(follower, N_outstanding, Py_None));
    WANT(is_object(follower, N_state, follow->fetching));
    READ(follower, retry_ms, &retry_ms);
    if (now_ms < retry_ms)
        return NOT_FOR_HERE;
    READ(follower, leader_epoch, &asked->leader_epoch);
    READ(follower, broker_id, &broker_id);
    READ(follower, broker_epoch, &broker_epoch);
    PyObject *fields[FETCH_FIELDS] = {
        PyLong_FromLongLong(broker_id), PyLong_FromLongLong(broker_epoch), PyLong_FromLongLong(asked->leader_epoch),
        PyLong_FromLongLong(asked->end_offset), PyLong_FromLongLong(asked->last_epoch),
        PyLong_FromLongLong(asked->log_start_offset),
    };
    asked->fetch = tuple_of(follow->follower_fetch, fields, FETCH_FIELDS);
    return asked->fetch == NULL ? FAILED : FINE;
}

static int check_key(Asked *asked)
{
    PyObject *topic_id = PyTuple_GetItem(asked->key, 0), *index = PyTuple_GetItem(asked->key, 1);
    char *bytes;
    Py_ssize_t size;
    int64_t value;
    if (topic_id == NULL || index == NULL || PyBytes_AsStringAndSize(topic_id, &bytes, &size) < 0 || as_int64(index, &value) < 0)
        return FAILED;
    asked->topic_id = (const uint8_t *)bytes;
    asked->index = (int32_t)value;
    return size == UUID_BYTES;
}

static int check_asked(const Follow *follow, Asked *asked, int64_t now_ms)
{
    TRY(check_key(asked));
    asked->followed = find_followed(follow, asked->key);
    if (asked->followed == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    Py_INCREF(asked->followed);
    PyObject *partition = get(asked->followed, N_partition), *log = NULL;
    int found = FAILED;
    if (partition != NULL && (asked->follower = get(partition, N_follower)) != NULL && (log = get(partition, N_log)) != NULL)
        found = check_partition(partition, log, asked);
    Py_XDECREF(log);
    Py_XDECREF(partition);
    return found == FINE ? check_follower(follow, asked, now_ms) : found;
}

/* Partitions of a topic behind its first one, topics in the order of their first ones. */
static void join_topic(Round *round, int number)
{
    Asked *asked = round->asked, *own = &asked[number];
    own->next = own->next_topic = NONE;
    own->last = number;
    own->count = 1;
    int first = round->topics == 0 ? NONE : 0, last = NONE;
    while (first != NONE && memcmp(asked[first].topic_id, own->topic_id, UUID_BYTES) != 0) {
        last = first;
        first = asked[first].next_topic;
    }
    if (first != NONE) {
        asked[asked[first].last].next = number;
        asked[first].last = number;
        asked[first].count++;
        return;
    }
    if (last != NONE)
        asked[last].next_topic = number;
    round->topics++;
}

static int check_round(const Follow *follow, Round *round, int64_t now_ms)
{
    PyObject *schedule = follow->schedule, *key, *value, *waiting = get(schedule, N__waiting);
    Py_ssize_t at = 0, waits = waiting == NULL ? FAILED : PyDict_Size(waiting);
    Py_XDECREF(waiting);
    if (waits != 0)
        return waits < 0 ? FAILED : NOT_FOR_HERE;
    if ((round->stirred = get(schedule, N__stirred)) == NULL || (round->in_session = get(schedule, N__in_session)) == NULL
        || (round->disk_waits = get(schedule, N__disk_wait_since_ms)) == NULL || (round->forgotten = get(schedule, N__forgotten)) == NULL)
        return FAILED;
    READ(schedule, _session_id, &round->session_id);
    READ(schedule, _session_epoch, &round->session_epoch);
    Py_ssize_t count = PyDict_Size(round->stirred), in_session = PySet_Size(round->in_session);
    if (count < 0 || in_session < 0)
        return FAILED;
    if (count > follow->max_named || count + in_session == 0)
        return NOT_FOR_HERE;
    if ((round->asked = PyMem_Calloc((size_t)count + 1, sizeof *round->asked)) == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    while (round->count < count && PyDict_Next(round->stirred, &at, &key, &value)) {
        Asked *asked = &round->asked[round->count++];
        asked->key = Py_NewRef(key);
        TRY(check_asked(follow, asked, now_ms));
        join_topic(round, round->count - 1);
    }
    return FINE;
}

/* The round is made: all that ``begin`` and ``ask`` note, and the fetches that are outstanding now. */
static int note_round(const Follow *follow, Round *round)
{
    for (int i = 0; i < round->count; i++) {
        Asked *asked = &round->asked[i];
        if (set(asked->follower, N_outstanding, asked->fetch) < 0
            || set(asked->followed, N_fetch, asked->fetch) < 0
            || PySet_Add(round->in_session, asked->key) < 0 || discard(round->disk_waits, asked->key) < 0)
            return FAILED;
    }
    PyDict_Clear(round->stirred);
    Py_ssize_t forgotten = PyList_Size(round->forgotten);
    if (forgotten < 0 || set_int64(follow->schedule, N__wait_ms, follow->wait_max_ms) < 0)
        return FAILED;
    if (forgotten == 0)
        return FINE;
    PyObject *none = PyList_New(0);
    int failed = none == NULL || set(follow->schedule, N__forgotten, none) < 0;
    Py_XDECREF(none);
    return failed ? FAILED : FINE;
}

static uint8_t *put_topics(uint8_t *to, const Follow *follow, const Round *round)
{
    to = put_compact(to, (uint32_t)round->topics);
    for (int first = round->topics == 0 ? NONE : 0; first != NONE; first = round->asked[first].next_topic) {
        memcpy(to, round->asked[first].topic_id, UUID_BYTES);
        to = put_compact(to + UUID_BYTES, (uint32_t)round->asked[first].count);
        for (int each = first; each != NONE; each = round->asked[each].next) {
            const Asked *asked = &round->asked[each];
            to = put32(put32(to, (uint32_t)asked->index), (uint32_t)asked->leader_epoch);
            to = put32(put64(to, (uint64_t)asked->end_offset), (uint32_t)asked->last_epoch);
            to = put32(put64(to, (uint64_t)asked->log_start_offset), (uint32_t)follow->bytes_max);
            *to++ = 0;
        }
        *to++ = 0;
    }
    return to;
}

/* No partition leaves the session, and there is no rack; the replica's id and epoch are tagged field 1. */
static uint8_t *put_rest(uint8_t *to, int32_t node_id, int64_t broker_epoch)
{
    static const uint8_t empty_then_tag[] = {1, 1, 1, 1, 13};
    memcpy(to, empty_then_tag, sizeof empty_then_tag);
    to = put64(put32(to + sizeof empty_then_tag, (uint32_t)node_id), (uint64_t)broker_epoch);
    *to++ = 0;
    return to;
}

static PyObject *write_request(const Follow *follow, const Round *round, uint32_t correlation_id, int64_t broker_epoch)
{
    char *client_id;
    Py_ssize_t client_id_bytes;
    if (PyBytes_AsStringAndSize(follow->client_id, &client_id, &client_id_bytes) < 0)
        return NULL;
    uint8_t *start = PyMem_Malloc((size_t)(FIXED_BYTES + client_id_bytes + round->topics * TOPIC_BYTES + round->count * PARTITION_BYTES));
    if (start == NULL)
        return PyErr_NoMemory();
    uint8_t *to = put16(put32(put16(put16(start + 4, FETCH), FETCH_VERSION), correlation_id), (uint16_t)client_id_bytes);
    memcpy(to, client_id, (size_t)client_id_bytes);
    to += client_id_bytes;
    *to++ = 0;
    to = put32(put32(to, (uint32_t)follow->wait_max_ms), (uint32_t)follow->min_bytes);
    to = put32(to, (uint32_t)follow->response_bytes_max);
    *to++ = 0; /* isolation level */
    to = put32(put32(to, (uint32_t)round->session_id), (uint32_t)round->session_epoch);
    to = put_rest(put_topics(to, follow, round), follow->node_id, broker_epoch);
    put32(start, (uint32_t)(to - start - 4));
    PyObject *request = PyBytes_FromStringAndSize((const char *)start, to - start);
    PyMem_Free(start);
    return request;
}

PyObject *next_request(Follow *follow, uint32_t correlation_id, int64_t broker_epoch, int64_t now_ms)
{
    Round round = {0};
    PyObject *request = NULL;
    int found = check_round(follow, &round, now_ms);
    if (found == NOT_FOR_HERE)
        request = Py_NewRef(Py_None);
    else if (found == FINE) {
        request = write_request(follow, &round, correlation_id, broker_epoch);
        if (request != NULL && note_round(follow, &round) != FINE)
            Py_CLEAR(request);
    }
    release_round(&round);
    return request;
}
