/* The type ``Fetches``: serves a Fetch as a whole, or says that it is not for here. */
#include "fetches.h"
#include "owner.h"

#define REQUEST_FIELDS 7

OWNER(Fetches, FETCHES_OTHERS)

static int initialize(Fetches *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        FETCHES_OTHERS(NAME_FIELD)
        "recheck_ms", NULL};
    PyObject *parts, *image, *sessions, *by_name, *by_id, *by_broker, *request_type, *parks, *clock, *recorder, *throttled_software, *counts, *parks_consumer, *slice_type, *writev;
    long recheck_ms;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$OOO!O!O!O!O!OOOUOOO!Ol", names, &parts, &image, &PyDict_Type, &sessions, &PyDict_Type, &by_name, &PyDict_Type, &by_id,
                                     &PyDict_Type, &by_broker, &PyType_Type, &request_type, &parks, &clock, &recorder,
                                     &throttled_software, &counts, &parks_consumer, &PyType_Type, &slice_type, &writev, &recheck_ms))
        return -1;
    clear(self);
    FETCHES_OTHERS(TAKE_FIELD)
    self->recheck_ms = recheck_ms;
    return 0;
}

/* -- checks, which change nothing */

/* Through the brokers' listener, and of no software that is held back. */
static int check_connection(Fetches *self, PyObject *connection, PyObject *config)
{
    PyObject *listener = get(connection, N_listener_name), *wanted = listener == NULL ? NULL : get(config, N_inter_broker_listener_name);
    int is_brokers = wanted == NULL ? FAILED : PyObject_RichCompareBool(listener, wanted, Py_EQ);
    Py_XDECREF(wanted);
    Py_XDECREF(listener);
    WANT(is_brokers);
    WANT_NOT(is_throttled(self, connection));
    return FINE;
}

/* The broker is registered, another one than this, and has the epoch of its registration. */
static int check_replica(Fetches *self, PyObject *config)
{
    const FetchRequest *request = &self->request;
    int64_t own_id, epoch = -1;
    READ(config, node_id, &own_id);
    if (own_id == request->replica_id)
        return NOT_FOR_HERE;
    PyObject *brokers = get(self->image, N_brokers);
    PyObject *known = brokers == NULL ? NULL : PyDict_GetItemWithError(brokers, self->look.broker);
    Py_XINCREF(known);
    Py_XDECREF(brokers);
    if (known == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    int is_gone = is_object(known, N_registration, Py_None);
    if (is_gone == 0 && get_int64(known, N_broker_epoch, &epoch) < 0)
        is_gone = FAILED;
    Py_DECREF(known);
    WANT_NOT(is_gone);
    return epoch == request->replica_epoch;
}

/* The watch is the session's, and the session has a presence and what it is stirred by. */
static int check_watch(Fetches *self, PyObject *watch, PyObject *session)
{
    Look *look = &self->look;
    int64_t epoch = -1;
    PyObject *current = PyDict_GetItemWithError(self->by_broker, look->broker);
    if (current != watch)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    WANT(is_object(watch, N_session, session));
    look->watch = watch;
    look->session = session;
    PyObject *stirred = get(session, N_stirred), *partitions = get(session, N_partitions), *presence = get(session, N_presence);
    look->stirred = stirred;
    look->partitions = partitions;
    look->presence = presence;
    int is_ready = stirred != NULL && partitions != NULL && presence != NULL && PyDict_Check(stirred) && PyDict_Check(partitions)
        && presence != Py_None;
    if (is_ready && get_int64(presence, N_broker_epoch, &epoch) < 0)
        is_ready = 0;
    int failed = PyErr_Occurred() != NULL;
    if (failed || !is_ready)
        return failed ? FAILED : NOT_FOR_HERE;
    return epoch == look->broker_epoch;
}

/* 1 if a recheck is due, for which the watch goes over its partitions. */
static int is_recheck_due(Fetches *self, PyObject *watch)
{
    int64_t rechecked_ms;
    READ(watch, rechecked_ms, &rechecked_ms);
    return self->look.now_ms - rechecked_ms >= self->recheck_ms;
}

static void begin(Fetches *self, int64_t broker_epoch, double now_s)
{
    Look *look = &self->look;
    look->by_id = self->by_id;
    look->slice_type = self->slice_type;
    look->broker_epoch = broker_epoch;
    look->now_ms = (int64_t)(now_s * 1000);
    look->stirred = look->partitions = look->presence = look->watch = look->session = NULL;
    look->taken_bytes = look->gathered_bytes = look->unsent_bytes = 0;
    look->is_due = look->tells_watermark = look->has_called = 0;
}

static void end(Fetches *self)
{
    release_look(&self->look);
    self->is_busy = 0;
}

static int check_session(Fetches *self, PyObject *session)
{
    const FetchRequest *request = &self->request;
    int64_t epoch;
    READ(session, epoch, &epoch);
    if (request->session_epoch <= 0 || epoch != request->session_epoch)
        return NOT_FOR_HERE;
    WANT(is_true(session, N_uses_topic_ids));
    return FINE;
}

/* -- the request's own */

int advance_session(Fetches *self, double now_s)
{
    const FetchRequest *request = &self->request;
    Look *look = &self->look;
    PyObject *now = PyFloat_FromDouble(now_s), *number = PyLong_FromLong(request->session_id), *moved = NULL;
    int failed = now == NULL || number == NULL || set(look->session, N_last_used_s, now) < 0
        || set_int64(look->session, N_epoch, request->session_epoch == INT32_MAX ? 1 : (int64_t)request->session_epoch + 1) < 0
        || (moved = PyObject_CallMethodObjArgs(self->sessions, interned[N_move_to_end], number, NULL)) == NULL;
    Py_XDECREF(moved);
    Py_XDECREF(number);
    Py_XDECREF(now);
    for (int i = 0; !failed && i < look->count; i++) {
        const Named *named = look->reads[i].named;
        PyObject *asked = look->reads[i].asked;
        failed = named != NULL
            && (set_int64(asked, N_fetch_offset, named->fetch_offset) < 0 || set_int64(asked, N_max_bytes, named->max_bytes) < 0
                || set_int64(asked, N_current_leader_epoch, named->leader_epoch) < 0
                || set_int64(asked, N_last_fetched_epoch, named->last_fetched_epoch) < 0
                || set_int64(asked, N_log_start_offset, named->log_start_offset) < 0);
    }
    return failed ? FAILED : FINE;
}

/* Has the next look go over all that this one was to look at. */
static int give_back(const Look *look)
{
    PyObject *all = PyList_New(look->new_count);
    int failed = all == NULL;
    for (int i = 0; !failed && i < look->new_count; i++)
        failed = PyList_SetItem(all, i, Py_NewRef(look->new_reads[i]->asked)) < 0;
    PyObject *done = failed ? NULL : PyObject_CallMethodObjArgs(look->watch, interned[N_put_back], all, NULL);
    Py_XDECREF(all);
    Py_XDECREF(done);
    return done == NULL ? FAILED : FINE;
}

/* What the reply needs later: see ``ParkedRequest``. */
static PyObject *kept_request(Fetches *self)
{
    const FetchRequest *request = &self->request;
    const Header *header = &request->header;
    PyObject *fields[REQUEST_FIELDS] = {
        PyLong_FromLong(header->version),
        PyLong_FromUnsignedLong(header->correlation_id),
        header->client_id_bytes < 0 ? Py_NewRef(Py_None) : PyUnicode_FromStringAndSize((const char *)header->client_id, header->client_id_bytes),
        PyLong_FromLong(request->max_wait_ms),
        PyLong_FromLongLong(self->look.min_bytes),
        PyLong_FromLongLong(self->look.max_bytes),
        PyLong_FromLongLong(request->replica_epoch),
    };
    return tuple_of(self->request_type, fields, REQUEST_FIELDS);
}

/* Leaves the rest to the parked fetch: it waits, or goes on by the twin's way. True, or NULL with an exception. */
static PyObject *leave(Fetches *self, PyObject *parked, PyObject *connection, double arrival_s, int waits)
{
    PyObject *request = kept_request(self), *reads = request == NULL ? NULL : reads_of(&self->look);
    PyObject *arrived = reads == NULL ? NULL : PyFloat_FromDouble(arrival_s), *done = NULL;
    if (arrived != NULL)
        done = PyObject_CallMethodObjArgs(parked, interned[waits ? N_park : N_go_on], connection, request, reads, arrived,
                                          self->look.tells_watermark ? Py_True : Py_False, NULL);
    Py_XDECREF(arrived);
    Py_XDECREF(reads);
    Py_XDECREF(request);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    Py_RETURN_TRUE;
}

static PyObject *answer_of(Fetches *self, int version, uint32_t correlation_id, double arrival_s, int is_held)
{
    int64_t session_id;
    if (settle_reads(&self->look, self->parts, self->image, self->is_named) != FINE || get_int64(self->look.session, N_session_id, &session_id) < 0
        || record(self, version, arrival_s, is_held) != FINE)
        return NULL;
    return write_answer(&self->look, self->is_named, version, correlation_id, (int32_t)session_id, 0);
}

/* The parked fetch of a watch, which is made when it is first needed; borrowed from the watch. */
static int find_parked(Fetches *self, PyObject *watch, PyObject **parked)
{
    PyObject *found = get(watch, N_parked);
    if (found == Py_None) {
        Py_DECREF(found);
        found = PyObject_CallFunctionObjArgs(self->parks, watch, NULL);
    }
    if (found == NULL)
        return FAILED;
    *parked = found;
    Py_DECREF(found);
    WANT(is_object(watch, N_fetch, Py_None));
    WANT(is_object(found, N_slot, Py_None));
    return FINE;
}

static int check_request(Fetches *self, PyObject *connection, PyObject *session, PyObject **parked)
{
    const FetchRequest *request = &self->request;
    Look *look = &self->look;
    PyObject *config = get(self->parts, N_config);
    int found = config == NULL ? FAILED : check_connection(self, connection, config);
    if (found == FINE)
        found = check_replica(self, config);
    if (found == FINE)
        found = set_budget(self, config, request->max_bytes, request->min_bytes);
    Py_XDECREF(config);
    TRY(found);
    if (look->min_bytes > 1)
        return NOT_FOR_HERE; /* else a fetch may wait that has found records */
    TRY(check_session(self, session));
    PyObject *watch = PyDict_GetItemWithError(self->by_broker, look->broker);
    if (watch == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    TRY(check_watch(self, watch, session));
    WANT_NOT(is_recheck_due(self, watch));
    TRY(gather(look, request));
    TRY(check_reads(look));
    return find_parked(self, watch, parked);
}

static PyObject *serve_checked(Fetches *self, PyObject *connection, PyObject *parked, double arrival_s)
{
    const FetchRequest *request = &self->request;
    Look *look = &self->look;
    if (advance_session(self, arrival_s) != FINE)
        return NULL;
    PyDict_Clear(look->stirred);
    int served = serve_reads(look);
    if (served == FINE && set_int64(look->presence, N_seen_ms, look->now_ms) < 0)
        served = FAILED;
    if (served == FAILED)
        return NULL;
    if (served == FINE && (look->is_due || is_enough(look) || request->max_wait_ms <= 0))
        return answer_of(self, request->header.version, request->header.correlation_id, arrival_s, 1);
    if (served != FINE && give_back(look) != FINE)
        return NULL;
    return leave(self, parked, connection, arrival_s, served == FINE);
}

/* Takes the reply: True where it is sent. */
static PyObject *sent_or(Fetches *self, PyObject *connection, PyObject *slot, PyObject *answer)
{
    if (answer == NULL || answer == Py_None)
        return answer;
    int step = send_parked(self->writev, connection, slot, answer);
    if (step == NOT_FOR_HERE)
        return answer;
    Py_DECREF(answer);
    return step == FINE ? Py_NewRef(Py_True) : NULL;
}

/* consume(connection, slot, frame, arrival_s, looked): see _compiled.pyi */
static PyObject *consume_again(Fetches *self, PyObject *args)
{
    PyObject *connection, *slot, *looked, *answer = NULL;
    Py_buffer frame;
    double arrival_s;
    if (!PyArg_ParseTuple(args, "OOy*dO!", &connection, &slot, &frame, &arrival_s, &PyList_Type, &looked))
        return NULL;
    if (self->is_busy || !read_fetch(frame.buf, frame.len, &self->request) || self->request.replica_id != NO_REPLICA) {
        answer = Py_NewRef(Py_None);
    } else {
        self->is_busy = 1;
        begin(self, 0, arrival_s);
        answer = serve_consumer(self, connection, frame.buf, frame.len, arrival_s, looked);
        end(self);
    }
    PyBuffer_Release(&frame);
    return sent_or(self, connection, slot, answer);
}

/* -- any */

static PyObject *serve_follower(Fetches *self, PyObject *connection, double arrival_s)
{
    PyObject *number = PyLong_FromLong(self->request.session_id), *parked = NULL, *answer = NULL;
    PyObject *session = number == NULL ? NULL : PyDict_GetItemWithError(self->sessions, number);
    Py_XINCREF(session);
    Py_XDECREF(number);
    self->look.broker = PyLong_FromLong(self->request.replica_id);
    int found = self->look.broker == NULL || PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    if (session != NULL && found != FAILED)
        found = check_request(self, connection, session, &parked);
    if (found == FINE) {
        PyObject *watch = Py_NewRef(self->look.watch);
        Py_INCREF(parked);
        answer = serve_checked(self, connection, parked, arrival_s);
        Py_DECREF(parked);
        Py_DECREF(watch);
    } else if (found == NOT_FOR_HERE) {
        answer = Py_NewRef(Py_None);
    }
    Py_XDECREF(session);
    return answer;
}

PyObject *serve_fetch(PyObject *fetches, PyObject *connection, uint8_t *frame, Py_ssize_t size, double arrival_s)
{
    Fetches *self = (Fetches *)fetches;
    if (self->is_busy || !read_fetch(frame, size, &self->request))
        Py_RETURN_NONE;
    int is_consumers = self->request.replica_id == NO_REPLICA;
    self->is_busy = 1;
    begin(self, is_consumers ? 0 : self->request.replica_epoch, arrival_s);
    PyObject *answer = is_consumers ? serve_consumer(self, connection, frame, size, arrival_s, NULL) : serve_follower(self, connection, arrival_s);
    end(self);
    return answer;
}

/* -- the answer of a parked fetch */

static int check_woken(Fetches *self, PyObject *watch, PyObject *session, PyObject *reads, int64_t max_bytes, int64_t min_bytes)
{
    PyObject *config = get(self->parts, N_config);
    int found = config == NULL ? FAILED : set_budget(self, config, max_bytes, min_bytes);
    Py_XDECREF(config);
    TRY(found);
    TRY(check_watch(self, watch, session));
    int is_due = is_recheck_due(self, watch);
    if (is_due) {
        PyObject *rechecked = is_due < 0 ? NULL : PyObject_CallMethod(watch, "recheck", "L", (long long)self->look.now_ms);
        Py_XDECREF(rechecked);
        if (rechecked == NULL)
            return FAILED;
    }
    TRY(gather_parked(&self->look, reads));
    return check_reads(&self->look);
}

static PyObject *answer_woken(Fetches *self, int version, uint32_t correlation_id, double arrival_s)
{
    PyDict_Clear(self->look.stirred);
    int served = serve_reads(&self->look);
    if (served == FINE)
        return answer_of(self, version, correlation_id, arrival_s, 0);
    if (served == FAILED || give_back(&self->look) != FINE)
        return NULL;
    Py_RETURN_NONE;
}

/* answer(watch, broker_id, request, reads, arrival_s, connection, slot): see _compiled.pyi */
static PyObject *answer(Fetches *self, PyObject *args)
{
    PyObject *watch, *request, *reads, *session, *connection, *slot;
    double arrival_s;
    int version, broker_id;
    unsigned int correlation_id;
    long long min_bytes, max_bytes, broker_epoch;
    if (!PyArg_ParseTuple(args, "OiO!O!dOO", &watch, &broker_id, &PyTuple_Type, &request, &PyList_Type, &reads, &arrival_s,
                          &connection, &slot)
        || !PyArg_ParseTuple(request, "iIOOLLL", &version, &correlation_id, &session, &session, &min_bytes, &max_bytes, &broker_epoch))
        return NULL;
    if (self->is_busy)
        Py_RETURN_NONE;
    PyObject *now = PyObject_CallNoArgs(self->clock), *answer = NULL;
    if (now == NULL || (session = get(watch, N_session)) == NULL) {
        Py_XDECREF(now);
        return NULL;
    }
    self->is_busy = 1;
    begin(self, broker_epoch, PyFloat_AsDouble(now));
    Py_DECREF(now);
    self->look.broker = PyLong_FromLong(broker_id);
    int found = self->look.broker == NULL ? FAILED : check_woken(self, watch, session, reads, max_bytes, min_bytes);
    if (found == FINE)
        answer = answer_woken(self, version, correlation_id, arrival_s);
    else if (found == NOT_FOR_HERE)
        answer = Py_NewRef(Py_None);
    end(self);
    Py_DECREF(session);
    return sent_or(self, connection, slot, answer);
}

static PyMethodDef methods[] = {
    {"answer", (PyCFunction)answer, METH_VARARGS, NULL},
    {"consume", (PyCFunction)consume_again, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

OWNER_TYPE(Fetches, add_fetches)

int is_fetches(PyObject *object) { return PyType_GetSlot(Py_TYPE(object), Py_tp_dealloc) == (void *)dealloc; }
