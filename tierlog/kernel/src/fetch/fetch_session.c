/* A consumer's incremental fetch of its session (KIP-227), whose topics are named by id. Nothing is changed before it is sure
   that the fetch is for here. The twins are ``FetchSessions.resolve``, ``ConsumerWatch`` and ``ConsumerSide``. */
#include "fetches.h"

/* As ``ConsumerWatch`` has it. */
#define RECHECKED 100

/* Of the watch's round, those from ``from`` on are rechecked now. */
typedef struct {
    PyObject *all; /* strong */
    Py_ssize_t from, count;
} Round;

/* -- which partitions to look at */

/* ``FetchedPartition.is_quiet``, of one that has been quiet at the partition. */
static int is_still_quiet(PyObject *asked, PyObject *partition)
{
    int64_t changes, quiet_changes, start_offset = -1, sent;
    READ(partition, changes, &changes);
    READ(asked, quiet_changes, &quiet_changes);
    READ(asked, sent_log_start_offset, &sent);
    PyObject *log = get(partition, N_log);
    int failed = log == NULL || get_int64(log, N_log_start_offset, &start_offset) < 0;
    Py_XDECREF(log);
    return failed ? FAILED : changes == quiet_changes && start_offset == sent;
}

/* Adds it if the session still has it. */
static int add_known(Look *look, PyObject *asked, Read **made)
{
    PyObject *key = asked_key(asked), *known = key == NULL ? NULL : PyDict_GetItemWithError(look->partitions, key);
    *made = known == asked ? added(look, asked, key) : NULL;
    Py_XDECREF(key);
    return *made != NULL ? FINE : PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
}

static int recheck_one(Look *look, PyObject *asked)
{
    PyObject *partition = get(asked, N_quiet_at);
    int is_calm = partition == NULL ? FAILED : partition == Py_None || read_of(look, asked) != NULL ? 1 : is_still_quiet(asked, partition);
    Py_XDECREF(partition);
    if (is_calm != 0)
        return is_calm < 0 ? FAILED : FINE;
    Read *read;
    TRY(add_known(look, asked, &read));
    look_at(look, read);
    read->is_rechecked = 1;
    return FINE;
}

/* Those that were quiet, and have changed in a way that nobody reports. */
static int gather_rechecked(Look *look, Round *round)
{
    round->all = get(look->watch, N__round);
    if (round->all != NULL && PyObject_Size(round->all) == 0)
        put_in(&round->all, PyMapping_Values(look->partitions));
    round->count = round->all == NULL ? -1 : PyList_Size(round->all);
    if (round->count < 0)
        return FAILED;
    round->from = round->count > RECHECKED ? round->count - RECHECKED : 0;
    for (Py_ssize_t i = round->from; i < round->count; i++)
        TRY(recheck_one(look, PyList_GetItem(round->all, i)));
    return FINE;
}

/* The session's order is that of looking and of the answer. */
static int sort_reads(Look *look)
{
    Read *reads = look->reads;
    for (int i = 0; i < look->count; i++)
        READ(reads[i].asked, place, &reads[i].place);
    for (int i = 1; i < look->count; i++)
        for (int at = i; at > 0 && reads[at - 1].place > reads[at].place; at--) {
            Read later = reads[at - 1];
            reads[at - 1] = reads[at];
            reads[at] = later;
        }
    for (int i = 0; i < look->count; i++)
        look->new_reads[i] = &reads[i];
    return FINE;
}

/* For a fetch that was woken: what it has looked at before, and behind that what has changed since, which is looked at first. */
static int gather_fresh(Look *look, PyObject *looked, PyObject *fresh)
{
    PyObject *asked;
    Py_ssize_t at = 0;
    Read *read;
    if (PyList_Size(looked) + PyDict_Size(fresh) > READS_MAX)
        return NOT_FOR_HERE;
    for (Py_ssize_t i = 0; i < PyList_Size(looked); i++)
        TRY(add_known(look, PyList_GetItem(looked, i), &read));
    while (PyDict_Next(fresh, &at, &asked, NULL)) {
        read = read_of(look, asked);
        if (read == NULL)
            TRY(add_known(look, asked, &read));
        look_at(look, read);
    }
    for (int i = 0; i < look->count; i++)
        if (!look->reads[i].is_new)
            look_at(look, &look->reads[i]);
    return FINE;
}

static int look_over(Fetches *self)
{
    Look *look = &self->look;
    for (int i = 0; i < look->new_count; i++) {
        Read *read = look->new_reads[i];
        TRY(read_asked(read));
        PyObject *partition = PyDict_GetItemWithError(self->by_id, read->key);
        if (partition == NULL)
            return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
        put_in(&read->partition, Py_NewRef(partition));
        TRY(consume_one(look, read, self->request.isolation));
    }
    return FINE;
}

/* -- the watch */

static int leave(const Look *look, PyObject *asked)
{
    PyObject *partition = get(asked, N_watched_at);
    if (partition == NULL || partition == Py_None) {
        Py_XDECREF(partition);
        return partition == NULL ? FAILED : FINE;
    }
    PyObject *all = set(asked, N_watched_at, Py_None) < 0 ? NULL : get(look->watch, N__at), *parked = NULL, *number = NULL;
    PyObject *known = all == NULL ? NULL : PyDict_GetItemWithError(all, partition);
    if (known == asked && PyDict_DelItem(all, partition) == 0 && (parked = get(partition, N_parked)) != NULL
        && (number = PyLong_FromVoidPtr(look->watch)) != NULL && PyDict_Contains(parked, number) > 0)
        PyDict_DelItem(parked, number);
    Py_XDECREF(number);
    Py_XDECREF(parked);
    Py_XDECREF(all);
    Py_DECREF(partition);
    return PyErr_Occurred() ? FAILED : FINE;
}

static int watch_at(const Look *look, PyObject *asked, PyObject *partition)
{
    int is_there = is_object(asked, N_watched_at, partition);
    if (is_there == 0)
        TRY(leave(look, asked));
    PyObject *all = is_there < 0 || set(asked, N_watched_at, partition) < 0 ? NULL : get(look->watch, N__at);
    PyObject *parked = all == NULL || PyDict_SetItem(all, partition, asked) < 0 ? NULL : get(partition, N_parked);
    PyObject *number = parked == NULL ? NULL : PyLong_FromVoidPtr(look->watch);
    int failed = number == NULL || PyDict_SetItem(parked, number, look->watch) < 0;
    Py_XDECREF(number);
    Py_XDECREF(parked);
    Py_XDECREF(all);
    return failed ? FAILED : FINE;
}

/* ``ConsumerWatch.answered`` */
static int answered(const Look *look, const Read *read, int is_quiet)
{
    PyObject *asked = read->asked;
    if (is_quiet) {
        int is_stirred = PyDict_Contains(look->stirred, asked);
        if (is_stirred < 0 || (is_stirred && PyDict_DelItem(look->stirred, asked) < 0))
            return FAILED;
        return watch_at(look, asked, read->partition);
    }
    if (PyDict_SetItem(look->stirred, asked, Py_None) < 0 || set(asked, N_quiet_at, Py_None) < 0)
        return FAILED;
    return leave(look, asked);
}

/* -- from here on the state changes */

/* Those that the request names are looked at until they are answered. */
static int stir_named(Fetches *self)
{
    Look *look = &self->look;
    for (int which = 0; which < self->request.named_count; which++)
        for (int i = 0; i < look->count; i++)
            if (look->reads[i].named == &self->request.named[which] && PyDict_SetItem(look->stirred, look->reads[i].asked, Py_None) < 0)
                return FAILED;
    return FINE;
}

static int stir_rechecked(Look *look, const Round *round)
{
    for (Py_ssize_t i = round->from; i < round->count; i++) {
        PyObject *asked = PyList_GetItem(round->all, i);
        const Read *read = read_of(look, asked);
        if (read == NULL || !read->is_rechecked)
            continue;
        if (PyDict_SetItem(look->stirred, asked, Py_None) < 0)
            return FAILED;
        TRY(leave(look, asked));
    }
    if (PyList_SetSlice(round->all, round->from, round->count, NULL) < 0)
        return FAILED;
    return set(look->watch, N__round, round->all) < 0 ? FAILED : FINE;
}

static int note_look(Fetches *self, const Round *round, int has_waited, double arrival_s)
{
    Look *look = &self->look;
    if (!has_waited) {
        TRY(advance_session(self, arrival_s));
        TRY(stir_named(self));
    }
    if (round->all != NULL)
        TRY(stir_rechecked(look, round));
    for (int i = 0; i < look->count; i++)
        if (set(look->reads[i].asked, N_quiet_at, Py_None) < 0)
            return FAILED;
    return FINE;
}

/* ``Answer.add`` */
static int tell(Fetches *self, const Read *read, PyObject *connection, int *is_named)
{
    const Look *look = &self->look;
    *is_named = is_news(read);
    if (*is_named < 0)
        return FAILED;
    if (!*is_named) {
        int is_quiet = read->fetch_offset >= read->high_watermark;
        if (is_quiet && (set(read->asked, N_quiet_at, read->partition) < 0 || set_int64(read->asked, N_quiet_changes, read->changes) < 0))
            return FAILED;
        return answered(look, read, is_quiet);
    }
    if (read->size_bytes > 0) {
        TRY(count_consumed(self, read, connection));
        PyObject *moved = put_last(look, read);
        if (moved == NULL)
            return FAILED;
        Py_DECREF(moved);
    }
    return answered(look, read, 0);
}

static PyObject *session_answer(Fetches *self, PyObject *connection, double arrival_s, int has_waited)
{
    const FetchRequest *request = &self->request;
    for (int i = 0; i < self->look.count; i++)
        if (tell(self, &self->look.reads[i], connection, &self->is_named[i]) != FINE)
            return NULL;
    if (record(self, request->header.version, arrival_s, !has_waited) != FINE)
        return NULL;
    return write_answer(&self->look, self->is_named, request->header.version, request->header.correlation_id, request->session_id,
                        request->isolation);
}

/* The fetch waits, also at what it has looked at. */
static PyObject *park_session(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s)
{
    const Look *look = &self->look;
    PyObject *looked = PyList_New(look->count);
    for (int i = 0; looked != NULL && i < look->count; i++) {
        const Read *read = &look->reads[i];
        PyList_SetItem(looked, i, Py_NewRef(read->asked));
        if (watch_at(look, read->asked, read->partition) != FINE)
            Py_CLEAR(looked);
    }
    PyObject *done = looked == NULL ? NULL : park(self, connection, frame, size, arrival_s, looked, look->watch);
    Py_XDECREF(looked);
    return done;
}

/* -- the request */

/* The session is of consumers and watched, and expects this request, or has been given it. Sets what the look has of it. */
static int check_session(Fetches *self, PyObject *session, PyObject *watch, int has_waited)
{
    const FetchRequest *request = &self->request;
    Look *look = &self->look;
    int64_t epoch;
    int64_t expected = !has_waited ? request->session_epoch : request->session_epoch == INT32_MAX ? 1 : (int64_t)request->session_epoch + 1;
    WANT(is_true(session, N_uses_topic_ids));
    WANT(is_object(session, N_presence, Py_None));
    READ(session, epoch, &epoch);
    if (epoch != expected || watch == Py_None)
        return NOT_FOR_HERE;
    look->session = session;
    look->watch = watch;
    look->stirred = get(session, N_stirred);
    look->partitions = look->stirred == NULL ? NULL : get(session, N_partitions);
    if (look->partitions == NULL)
        return FAILED;
    if (!PyDict_Check(look->stirred) || !PyDict_Check(look->partitions))
        return NOT_FOR_HERE;
    WANT(is_object(watch, N__stirred, look->stirred));
    WANT(is_object(watch, N__fetch, Py_None));
    return FINE;
}

static int gather_all(Fetches *self, Round *round, PyObject *looked)
{
    Look *look = &self->look;
    PyObject *fresh = looked == NULL ? NULL : get(look->watch, N_fresh);
    if (looked != NULL && fresh == NULL)
        return FAILED;
    int has_fresh = looked != NULL && PyDict_Size(fresh) > 0;
    int found = has_fresh ? gather_fresh(look, looked, fresh) : FINE;
    Py_XDECREF(fresh);
    if (has_fresh)
        return found;
    if (looked != NULL)
        self->request.named_count = 0; /* the session has been given them */
    TRY(gather(look, &self->request));
    TRY(gather_rechecked(look, round));
    return sort_reads(look);
}

static PyObject *serve_checked(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked)
{
    Look *look = &self->look;
    Round round = {NULL, 0, 0};
    int has_waited = looked != NULL;
    int found = gather_all(self, &round, looked);
    if (found == FINE)
        found = look_over(self);
    int is_ready = has_waited || look->is_due || is_enough(look) || self->request.max_wait_ms <= 0;
    if (found == FINE && !is_ready && (look->gathered_bytes > 0 || look->unsent_bytes > 0))
        found = NOT_FOR_HERE;
    int failed = found == FAILED || (found == FINE && note_look(self, &round, has_waited, arrival_s) != FINE);
    Py_XDECREF(round.all);
    if (failed)
        return NULL;
    if (found != FINE)
        return Py_NewRef(Py_None);
    return is_ready ? session_answer(self, connection, arrival_s, has_waited) : park_session(self, connection, frame, size, arrival_s);
}

PyObject *serve_session(Fetches *self, PyObject *connection, const uint8_t *frame, Py_ssize_t size, double arrival_s, PyObject *looked)
{
    const FetchRequest *request = &self->request;
    if (request->header.version < FETCH_BY_ID_SINCE || request->session_epoch <= 0)
        return Py_NewRef(Py_None);
    PyObject *number = PyLong_FromLong(request->session_id), *answer = NULL;
    PyObject *session = number == NULL ? NULL : PyDict_GetItemWithError(self->sessions, number);
    Py_XDECREF(number);
    if (session == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    Py_INCREF(session);
    PyObject *watch = get(session, N_watch);
    int found = watch == NULL ? FAILED : check_session(self, session, watch, looked != NULL);
    if (found == FINE)
        answer = serve_checked(self, connection, frame, size, arrival_s, looked);
    else if (found == NOT_FOR_HERE)
        answer = Py_NewRef(Py_None);
    Py_XDECREF(watch);
    Py_DECREF(session);
    return answer;
}
