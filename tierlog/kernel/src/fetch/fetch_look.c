/* What the partitions of a follower's fetch have, and what the fetch proves.

   The twins are ``FetchSessions._update``, ``ReplicaWatch.take`` and ``FollowerSide._read_one`` with what it calls:
   ``Leader.on_follower_fetch``, ``FollowerProgress.on_fetch``, ``Look.local``. What a check refuses, and whatever is rare, is
   not for here. */
#include "fetch.h"

void release_look(Look *look)
{
    for (int i = 0; i < look->count; i++) {
        Read *read = &look->reads[i];
        PyObject **const held[] = {&read->asked, &read->key, &read->partition, &read->leader,
                                   &read->log, &read->progress, &read->records};
        for (size_t each = 0; each < sizeof held / sizeof *held; each++)
            Py_CLEAR(*held[each]);
    }
    look->count = look->new_count = 0;
    Py_CLEAR(look->broker);
    Py_CLEAR(look->partitions);
    Py_CLEAR(look->presence);
    Py_CLEAR(look->stirred);
}

/* -- which partitions */

/* NULL if it is not for here, or with an exception. ``key``: (topic id, partition). */
Read *added(Look *look, PyObject *asked, PyObject *key)
{
    PyObject *topic_id = PyTuple_GetItem(key, 0);
    int64_t index;
    if (look->count == READS_MAX || !PyBytes_Check(topic_id) || PyBytes_Size(topic_id) != UUID_BYTES
        || as_int64(PyTuple_GetItem(key, 1), &index) < 0)
        return NULL;
    Read *read = &look->reads[look->count++];
    memset(read, 0, sizeof *read);
    memcpy(read->topic_id, PyBytes_AsString(topic_id), UUID_BYTES);
    read->index = index;
    read->asked = Py_NewRef(asked);
    read->key = Py_NewRef(key);
    return read;
}

Read *read_of(Look *look, PyObject *asked)
{
    for (int i = 0; i < look->count; i++)
        if (look->reads[i].asked == asked)
            return &look->reads[i];
    return NULL;
}

void look_at(Look *look, Read *read)
{
    read->is_new = 1;
    look->new_reads[look->new_count++] = read;
}

PyObject *asked_key(PyObject *asked)
{
    PyObject *topic_id = get(asked, N_topic_id), *index = topic_id == NULL ? NULL : get(asked, N_partition);
    PyObject *key = index == NULL ? NULL : PyTuple_Pack(2, topic_id, index);
    Py_XDECREF(topic_id);
    Py_XDECREF(index);
    return key;
}

/* Those that changed since the last look. */
static int gather_stirred(Look *look)
{
    PyObject *asked;
    Py_ssize_t at = 0;
    if (PyDict_Size(look->stirred) > NAMED_MAX)
        return NOT_FOR_HERE;
    while (PyDict_Next(look->stirred, &at, &asked, NULL)) {
        PyObject *key = asked_key(asked);
        PyObject *known = key == NULL ? NULL : PyDict_GetItemWithError(look->partitions, key);
        Read *read = known == asked ? read_of(look, asked) : NULL;
        if (read == NULL && known == asked)
            read = added(look, asked, key);
        Py_XDECREF(key);
        if (read == NULL)
            return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
        look_at(look, read);
    }
    return FINE;
}

static int gather_named(Look *look, const FetchRequest *request, const Named *named)
{
    PyObject *key = Py_BuildValue("(y#i)", (const char *)request->topics[named->topic].name, (Py_ssize_t)UUID_BYTES, (int)named->index);
    PyObject *asked = key == NULL ? NULL : PyDict_GetItemWithError(look->partitions, key);
    Read *read = NULL;
    if (asked != NULL) {
        read = read_of(look, asked);
        if (read == NULL && (read = added(look, asked, key)) != NULL)
            look_at(look, read);
    }
    Py_XDECREF(key);
    if (read == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    if (read->named != NULL)
        return NOT_FOR_HERE;
    read->named = named;
    return FINE;
}

int gather(Look *look, const FetchRequest *request)
{
    TRY(gather_stirred(look));
    for (int i = 0; i < request->named_count; i++)
        TRY(gather_named(look, request, &request->named[i]));
    return FINE;
}

/* (what is asked, its partition, and what the look has found) of each that a parked fetch has looked at. */
PyObject *reads_of(const Look *look)
{
    PyObject *reads = PyList_New(look->count);
    for (int i = 0; reads != NULL && i < look->count; i++) {
        const Read *read = &look->reads[i];
        PyObject *each = Py_BuildValue("(OOLLLL)", read->asked, read->partition == NULL ? Py_None : read->partition, (long long)read->changes,
                                       (long long)read->high_watermark, (long long)read->last_stable_offset,
                                       (long long)read->log_start_offset);
        if (each == NULL || PyList_SetItem(reads, i, each) < 0)
            Py_CLEAR(reads);
    }
    return reads;
}

static int take_back(Look *look, PyObject *each)
{
    if (!PyTuple_Check(each) || PyTuple_Size(each) != 6)
        return NOT_FOR_HERE;
    PyObject *asked = PyTuple_GetItem(each, 0), *key = asked_key(asked);
    Read *read = key == NULL ? NULL : added(look, asked, key);
    Py_XDECREF(key);
    if (read == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    read->partition = Py_NewRef(PyTuple_GetItem(each, 1));
    if (as_int64(PyTuple_GetItem(each, 2), &read->changes) < 0 || as_int64(PyTuple_GetItem(each, 3), &read->high_watermark) < 0
        || as_int64(PyTuple_GetItem(each, 4), &read->last_stable_offset) < 0
        || as_int64(PyTuple_GetItem(each, 5), &read->log_start_offset) < 0)
        return FAILED;
    return FINE;
}

/* Those that a parked fetch has looked at, and those that changed since. */
int gather_parked(Look *look, PyObject *reads)
{
    Py_ssize_t count = PyList_Size(reads);
    if (count < 0)
        return FAILED;
    for (Py_ssize_t i = 0; i < count; i++)
        TRY(take_back(look, PyList_GetItem(reads, i)));
    return gather_stirred(look);
}

/* -- checks, which change nothing */

/* What the follower asks of the partition. */
int read_asked(Read *read)
{
    const Named *named = read->named;
    if (named != NULL) {
        read->fetch_offset = named->fetch_offset;
        read->max_bytes = named->max_bytes;
        read->leader_epoch = named->leader_epoch;
        read->last_fetched_epoch = named->last_fetched_epoch;
        read->follower_start_offset = named->log_start_offset;
        return FINE;
    }
    READ(read->asked, fetch_offset, &read->fetch_offset);
    READ(read->asked, max_bytes, &read->max_bytes);
    READ(read->asked, current_leader_epoch, &read->leader_epoch);
    READ(read->asked, last_fetched_epoch, &read->last_fetched_epoch);
    READ(read->asked, log_start_offset, &read->follower_start_offset);
    return FINE;
}

static int contains(PyObject *from, int name, PyObject *wanted)
{
    PyObject *all = get(from, name);
    int found = all == NULL ? FAILED : PySequence_Contains(all, wanted);
    Py_XDECREF(all);
    return found;
}

/* Finds the partition, which is led here by the epoch that the follower knows, and the follower's progress. */
static int find_led(const Look *look, Read *read)
{
    PyObject *partition = PyDict_GetItemWithError(look->by_id, read->key);
    if (partition == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    put_in(&read->partition, Py_NewRef(partition));
    put_in(&read->leader, get(partition, N_leader));
    put_in(&read->log, get(partition, N_log));
    if (read->leader == NULL || read->log == NULL)
        return FAILED;
    if (read->leader == Py_None)
        return NOT_FOR_HERE;
    WANT(is_object(partition, N_offline, Py_None));
    WANT_NOT(is_true(partition, N_log_start_waiters));
    WANT_NOT(is_true(partition, N_leader_throttled));
    int64_t own, leader_epoch;
    READ(partition, leader_epoch, &own);
    READ(read->leader, leader_epoch, &leader_epoch);
    if (own != read->leader_epoch || leader_epoch != read->leader_epoch)
        return NOT_FOR_HERE;
    WANT(contains(read->leader, N_replicas, look->broker));
    WANT(contains(read->leader, N_isr, look->broker));
    PyObject *followers = get(read->leader, N_followers);
    PyObject *progress = followers == NULL ? NULL : PyDict_GetItemWithError(followers, look->broker);
    put_in(&read->progress, Py_XNewRef(progress));
    Py_XDECREF(followers);
    return read->progress != NULL ? FINE : PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
}

/* The epoch of the follower's last record is the log's latest; it has none with an empty log. */
int check_lineage(const Read *read)
{
    if (read->last_fetched_epoch < 0)
        return FINE;
    PyObject *lineage = get(read->log, N_epochs), *epochs = lineage == NULL ? NULL : get(lineage, N__epochs);
    Py_ssize_t count = epochs == NULL ? -1 : PyList_Size(epochs);
    int64_t latest = -1;
    int failed = count < 0 || (count > 0 && as_int64(PyList_GetItem(epochs, count - 1), &latest) < 0);
    Py_XDECREF(epochs);
    Py_XDECREF(lineage);
    return failed ? FAILED : count > 0 && latest == read->last_fetched_epoch ? FINE : NOT_FOR_HERE;
}

static int check_read(const Look *look, Read *read)
{
    int64_t known_epoch, end_offset, start_offset;
    TRY(find_led(look, read));
    READ(read->progress, broker_epoch, &known_epoch);
    READ(read->log, log_end_offset, &end_offset);
    READ(read->log, log_start_offset, &start_offset);
    if (look->broker_epoch < known_epoch || read->fetch_offset > end_offset || read->fetch_offset < start_offset
        || (read->fetch_offset == start_offset && read->follower_start_offset < start_offset))
        return NOT_FOR_HERE;
    return check_lineage(read);
}

int check_reads(Look *look)
{
    for (int i = 0; i < look->count; i++) {
        Read *read = &look->reads[i];
        if (read->is_new) {
            TRY(read_asked(read));
            TRY(check_read(look, read));
        } else {
            if (read->partition == Py_None)
                return NOT_FOR_HERE;
            TRY(read_asked(read));
            TRY(find_led(look, read));
        }
    }
    return FINE;
}

/* -- what the fetch proves */

static int caught_up_ms(PyObject *progress, int64_t *found)
{
    READ(progress, last_caught_up_ms, found);
    PyObject *presence = get(progress, N_presence);
    int64_t seen_ms = INT64_MIN;
    int failed = presence == NULL || (presence != Py_None && get_int64(presence, N_seen_ms, &seen_ms) < 0);
    Py_XDECREF(presence);
    if (seen_ms > *found)
        *found = seen_ms;
    return failed ? FAILED : FINE;
}

/* ``FollowerProgress.on_fetch``. */
static int note_progress(const Look *look, const Read *read, int64_t end_offset)
{
    PyObject *progress = read->progress;
    int64_t caught_up, last_end_offset, last_fetch_ms;
    if (read->fetch_offset >= end_offset) {
        READ(progress, last_caught_up_ms, &caught_up);
        if (look->now_ms > caught_up)
            caught_up = look->now_ms;
    } else {
        READ(progress, last_fetch_log_end_offset, &last_end_offset);
        TRY(caught_up_ms(progress, &caught_up));
        if (read->fetch_offset >= last_end_offset && last_end_offset > -1) {
            READ(progress, last_fetch_ms, &last_fetch_ms);
            if (last_fetch_ms > caught_up)
                caught_up = last_fetch_ms;
        }
    }
    if (set_int64(progress, N_last_caught_up_ms, caught_up) < 0 || set(progress, N_presence, Py_None) < 0
        || set_int64(progress, N_broker_epoch, look->broker_epoch) < 0 || set_int64(progress, N_log_end_offset, read->fetch_offset) < 0
        || set_int64(progress, N_log_start_offset, read->follower_start_offset) < 0
        || set_int64(progress, N_last_fetch_log_end_offset, end_offset) < 0
        || set_int64(progress, N_last_fetch_ms, look->now_ms) < 0)
        return FAILED;
    return FINE;
}

/* ``Leader.advance``: 1 if the high watermark has moved. */
static int advance(PyObject *leader)
{
    int64_t min_isr, end_offset, high_watermark, other;
    READ(leader, min_isr, &min_isr);
    READ(leader, durable_end_offset, &end_offset);
    READ(leader, high_watermark, &high_watermark);
    PyObject *isr = get(leader, N_isr);
    Py_ssize_t in_sync = isr == NULL ? -1 : PyObject_Size(isr);
    Py_XDECREF(isr);
    if (in_sync < min_isr)
        return in_sync < 0 ? FAILED : 0;
    PyObject *members = get(leader, N__members);
    Py_ssize_t count = members == NULL ? -1 : PyTuple_Size(members);
    int failed = count < 0;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        failed = get_int64(PyTuple_GetItem(members, i), N_log_end_offset, &other) < 0;
        if (!failed && other < end_offset)
            end_offset = other;
    }
    Py_XDECREF(members);
    if (failed)
        return FAILED;
    if (end_offset <= high_watermark)
        return 0;
    return set_int64(leader, N_high_watermark, end_offset) < 0 ? FAILED : 1;
}

/* -- what the partition has */

int last_stable_offset(Read *read)
{
    PyObject *producers = get(read->log, N_producers), *unstable = producers == NULL ? NULL : get(producers, N_first_unstable_offset);
    int64_t first;
    read->last_stable_offset = read->high_watermark;
    int failed = unstable == NULL || (unstable != Py_None && as_int64(unstable, &first) < 0);
    if (!failed && unstable != Py_None && first < read->high_watermark)
        read->last_stable_offset = first;
    Py_XDECREF(unstable);
    Py_XDECREF(producers);
    return failed ? FAILED : FINE;
}

static int serve_read(Look *look, Read *read)
{
    int64_t end_offset, sent;
    if (look->has_called)
        TRY(check_read(look, read));
    if (set(read->asked, N_quiet_at, Py_None) < 0)
        return FAILED;
    READ(read->log, log_end_offset, &end_offset);
    TRY(note_progress(look, read, end_offset));
    int has_moved = advance(read->leader);
    if (has_moved < 0)
        return FAILED;
    if (has_moved) {
        PyObject *released = PyObject_CallMethodObjArgs(read->partition, interned[N_release_committed], NULL);
        Py_XDECREF(released);
        if (released == NULL)
            return FAILED;
        look->has_called = 1;
        WANT(is_object(read->partition, N_leader, read->leader));
        READ(read->log, log_end_offset, &end_offset);
    }
    READ(read->log, log_start_offset, &read->log_start_offset);
    READ(read->partition, changes, &read->changes);
    READ(read->leader, high_watermark, &read->high_watermark);
    TRY(last_stable_offset(read));
    READ(read->progress, high_watermark_sent, &sent);
    look->tells_watermark |= sent < read->high_watermark;
    return read->fetch_offset >= end_offset ? FINE : read_local(look, read, end_offset);
}

/* ``ReplicaWatch.seen``: from now on the partition reports to the watch. */
static int watch_read(const Look *look, const Read *read, PyObject *watched, PyObject *number)
{
    PyObject *known = PyDict_GetItemWithError(watched, read->partition);
    if (known != read->asked && (PyErr_Occurred() || PyDict_SetItem(watched, read->partition, read->asked) < 0))
        return FAILED;
    PyObject *parked = get(read->partition, N_parked_replicas);
    known = parked == NULL ? NULL : PyDict_GetItemWithError(parked, number);
    int failed = parked == NULL || (known != look->watch && (PyErr_Occurred() || PyDict_SetItem(parked, number, look->watch) < 0));
    Py_XDECREF(parked);
    return failed ? FAILED : FINE;
}

/* Serves those that are new. NOT_FOR_HERE: the twin looks at all of them again. */
int serve_reads(Look *look)
{
    for (int i = 0; i < look->new_count; i++)
        TRY(serve_read(look, look->new_reads[i]));
    PyObject *watched = get(look->watch, N__at), *number = PyLong_FromVoidPtr(look->watch);
    int done = watched == NULL || number == NULL ? FAILED : FINE;
    for (int i = 0; done == FINE && i < look->new_count; i++)
        done = watch_read(look, look->new_reads[i], watched, number);
    Py_XDECREF(number);
    Py_XDECREF(watched);
    return done;
}
