/* The type ``Produce``: serves a Produce request as a whole, or says that it is not for here. */
#include "produce.h"
#include "owner.h"
#include "fetch.h"

OWNER(Produce, OTHERS)

static int initialize(Produce *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        OTHERS(NAME_FIELD)
        NULL};
    PyObject *by_name, *by_id, *internal_topics, *known_batch, *append_result, *now_ms, *now_s, *clock, *recorder, *takes_turn, *undo, *fetches, *waits, *write, *clock_stands;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$O!O!O!O!OOOOOOOOOOO", names, &PyDict_Type, &by_name, &PyDict_Type, &by_id,
                                     &PyFrozenSet_Type, &internal_topics, &PyType_Type, &known_batch, &append_result, &now_ms, &now_s,
                                     &clock, &recorder, &takes_turn, &undo, &fetches, &waits, &write, &clock_stands))
        return -1;
    if (fetches != Py_None && !is_fetches(fetches)) {
        PyErr_SetString(PyExc_TypeError, "fetches are served by a Fetches, or not here");
        return -1;
    }
    clear(self);
    OTHERS(TAKE_FIELD)
    return 0;
}

/* The hosted partition that a part is for. */
int find_part(Produce *self, const Request *request, Part *part)
{
    const Topic *topic = &request->topics[part->topic];
    int is_by_id = request->version >= BY_ID_SINCE;
    part->partition = hosted(is_by_id ? self->by_id : self->by_name, is_by_id, topic->name, topic->name_bytes, part->index);
    if (part->partition == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    PyObject *both = get(part->partition, N_topic_partition);
    PyObject *own_name = both == NULL ? NULL : PyTuple_GetItem(both, 0);
    int is_internal = own_name == NULL ? -1 : PySet_Contains(self->internal_topics, own_name);
    Py_XDECREF(both);
    return is_internal < 0 ? FAILED : !is_internal;
}

static int is_named_twice(const Request *request, int count)
{
    for (int i = 0; i < count; i++)
        if (request->parts[i].partition == request->parts[count].partition)
            return 1;
    return 0;
}

static int check(Produce *self, Request *request, int64_t now_ms)
{
    for (int i = 0; i < request->parts_count; i++) {
        int found = find_part(self, request, &request->parts[i]);
        if (found != FINE)
            return found;
        if (is_named_twice(request, i))
            return NOT_FOR_HERE;
        found = check_part(&request->parts[i], request->acks, now_ms);
        if (found != FINE)
            return found;
    }
    return FINE;
}

/* The ledger is told when another connection begins to append to a partition. */
int take_turn(Produce *self, const Request *request, const Part *part, PyObject *connection)
{
    PyObject *producer = get(part->traffic, N_producer);
    if (producer == NULL)
        return FAILED;
    int is_its_turn = is_object(connection, N_traffic, producer);
    Py_DECREF(producer);
    if (is_its_turn)
        return is_its_turn;
    PyObject *told = PyObject_CallFunction(self->takes_turn, "Oz#O", connection, request->client_id_bytes < 0 ? NULL : (const char *)request->client_id,
                                           (Py_ssize_t)(request->client_id_bytes < 0 ? 0 : request->client_id_bytes), part->partition);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

/* An AppendResult: the twin shapes the reply of a request that it finishes. */
static PyObject *result_of(Produce *self, const Part *part)
{
    return PyObject_CallFunction(self->append_result, "iLLiL", 0, (long long)part->end_offset, (long long)part->end_offset + part->count - 1,
                                 -1, (long long)part->log_start_offset);
}

/* Behind the write: the log's bookkeeping, and whoever waits. NULL with an exception; else None, or the refusal of a bug. */
PyObject *finish_part(Produce *self, Part *part, int64_t now_ms)
{
    int is_told = 0;
    if (remember_part(part, self->known_batch, now_ms) != FINE) {
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        PyObject *refusal = PyObject_CallFunction(self->undo, "OOLLLO", part->partition, part->segment, (long long)part->position,
                                                  (long long)part->end_offset, (long long)now_ms, error == NULL ? Py_None : error);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(trace);
        return refusal;
    }
    if (count_part(part, &is_told) != FINE)
        return NULL;
    if (!is_told)
        Py_RETURN_NONE;
    PyObject *refusal = PyObject_CallMethod(part->partition, "note_appended", "in", (int)part->count, part->size);
    return refusal;
}

/* Whether the batch is committed: with ``flush.mode=ack`` and with followers the answer waits for that. */
static int is_below_watermark(const Part *part)
{
    int64_t high_watermark;
    if (get_int64(part->leader, N_high_watermark, &high_watermark) < 0)
        return FAILED;
    return part->end_offset + part->count <= high_watermark;
}

/* What came of the parts in turn: the first ``done`` are appended, the last of them perhaps refused in the end. */
typedef struct {
    int done, waits;
    PyObject *refusal; /* NULL or strong */
} Outcome;

/* Ends before a part that the twin must append, and behind one that was refused. */
static int append(Produce *self, Request *request, PyObject *connection, int64_t now_ms, Outcome *outcome)
{
    for (int i = 0; i < request->parts_count; i++) {
        Part *part = &request->parts[i];
        int step = i == 0 ? FINE : is_still_so(part);
        if (step == FINE)
            step = take_turn(self, request, part, connection);
        if (step == FINE)
            step = write_part(part);
        if (step != FINE)
            return step == FAILED ? FAILED : FINE;
        PyObject *refusal = finish_part(self, part, now_ms);
        if (refusal == NULL)
            return FAILED;
        outcome->done++;
        if (refusal != Py_None) {
            outcome->refusal = refusal;
            return FINE;
        }
        Py_DECREF(refusal);
        int is_committed = request->acks < 0 ? is_below_watermark(part) : 1;
        if (is_committed < 0)
            return FAILED;
        part->is_waiting = !is_committed;
        outcome->waits |= !is_committed;
    }
    return FINE;
}

static PyObject *results_of(Produce *self, const Request *request, const Outcome *outcome)
{
    PyObject *results = PyList_New(0);
    for (int i = 0; results != NULL && i < outcome->done; i++) {
        int is_refused = outcome->refusal != NULL && i == outcome->done - 1;
        PyObject *result = is_refused ? Py_NewRef(outcome->refusal) : result_of(self, &request->parts[i]);
        if (result == NULL || PyList_Append(results, result) < 0)
            Py_CLEAR(results);
        Py_XDECREF(result);
    }
    return results;
}

int ask_now_ms(Produce *self, int64_t *now_ms)
{
    if (self->now_s != Py_None) {
        PyObject *now = PyObject_CallNoArgs(self->now_s);
        double now_s = now == NULL ? -1.0 : PyFloat_AsDouble(now);
        Py_XDECREF(now);
        *now_ms = (int64_t)(now_s * 1000);
        return now_s == -1.0 && PyErr_Occurred() ? FAILED : FINE;
    }
    PyObject *now = PyObject_CallNoArgs(self->now_ms);
    int failed = now == NULL || as_int64(now, now_ms) < 0;
    Py_XDECREF(now);
    return failed ? FAILED : FINE;
}

static int has_room(const Produce *self) { return self->reply_bytes + reply_bytes_max(&self->request) <= REPLIES_BYTES; }

/* Adds the reply to those of the turn, and counts the request. There is room: that was asked before. */
int answer(Produce *self, const Request *request, double arrival_s)
{
    if (request->acks != 0)
        self->reply_bytes += write_reply(request, self->replies + self->reply_bytes);
    double took_s = 0;
    if (self->clock_stands != Py_True) {
        PyObject *now = PyObject_CallNoArgs(self->clock);
        if (now == NULL)
            return FAILED;
        took_s = PyFloat_AsDouble(now) - arrival_s;
        Py_DECREF(now);
    }
    return record_request(self->recorder, request->version, took_s) < 0 ? FAILED : FINE;
}

/* The batches that are not committed yet, as ``ProduceWaits.wait`` takes them. */
static PyObject *waiting_batches(const Request *request)
{
    PyObject *batches = PyList_New(0);
    for (int i = 0; batches != NULL && i < request->parts_count; i++) {
        const Part *part = &request->parts[i];
        PyObject *batch = part->is_waiting ? Py_BuildValue("(OLi)", part->partition, (long long)part->end_offset + part->count, i) : Py_NewRef(Py_None);
        if (batch == NULL || (part->is_waiting && PyList_Append(batches, batch) < 0))
            Py_CLEAR(batches);
        Py_XDECREF(batch);
    }
    return batches;
}

/* Keeps the reply's place until all is committed. It is made now, behind those in the same turn; there is room. */
static int wait_for_others(Produce *self, const Request *request, PyObject *connection, double arrival_s)
{
    uint8_t *text = self->replies + self->reply_bytes;
    Py_ssize_t size = write_reply(request, text);
    PyObject *answer = Py_BuildValue("[y#]", (const char *)text, size), *batches = answer == NULL ? NULL : waiting_batches(request);
    PyObject *place = batches == NULL ? NULL
        : PyObject_CallMethod(self->waits, "wait", "OiLdiOO", connection, request->version, (long long)(int32_t)request->correlation_id,
                              arrival_s, (int)request->timeout_ms, batches, answer);
    Py_XDECREF(batches);
    Py_XDECREF(answer);
    PyObject *kept = place == NULL || hand_over(self, connection) < 0 ? NULL
        : PyObject_CallMethodObjArgs(connection, interned[N_keep_place], place, NULL);
    Py_XDECREF(place);
    Py_XDECREF(kept);
    return kept == NULL ? FAILED : FINE;
}

static PyObject *serve_request(Produce *self, PyObject *connection, double arrival_s)
{
    Request *request = &self->request;
    int64_t now_ms;
    if (ask_now_ms(self, &now_ms) != FINE)
        return NULL;
    int found = check(self, request, now_ms);
    if (found != FINE)
        return found == FAILED ? NULL : Py_NewRef(Py_None);
    Outcome outcome = {0, 0, NULL};
    if (append(self, request, connection, now_ms, &outcome) != FINE)
        return NULL;
    if (outcome.done == 0)
        Py_RETURN_NONE;
    if (outcome.waits && outcome.refusal == NULL && outcome.done == request->parts_count && self->waits != Py_None) {
        if (wait_for_others(self, request, connection, arrival_s) != FINE)
            return NULL;
        Py_RETURN_TRUE;
    }
    if (outcome.waits || outcome.refusal != NULL || outcome.done < request->parts_count) {
        PyObject *results = results_of(self, request, &outcome);
        Py_XDECREF(outcome.refusal);
        return results;
    }
    if (answer(self, request, arrival_s) != FINE)
        return NULL;
    Py_RETURN_TRUE;
}

/* One Produce. None, True, or a list; NULL with an exception. */
static PyObject *serve_produce(Produce *self, PyObject *connection, uint8_t *frame, Py_ssize_t size, double arrival_s)
{
    Request *request = &self->request;
    request->topics = self->topics;
    request->parts = self->parts;
    request->parts_max = PARTITIONS_MAX;
    if (!read_request(frame, size, request) || !has_room(self))
        Py_RETURN_NONE;
    for (int i = 0; i < request->parts_count; i++) {
        Part *part = &request->parts[i];
        part->partition = part->traffic = part->log = part->leader = part->segments = part->segment = part->producers = part->entry = NULL;
    }
    PyObject *answer = serve_request(self, connection, arrival_s);
    for (int i = 0; i < request->parts_count; i++)
        release_part(&request->parts[i]);
    return answer;
}

/* Puts the replies so far behind those of ``answers``; -1 with an exception. */
static int gather_replies(Produce *self)
{
    if (self->answers == NULL && (self->answers = PyList_New(0)) == NULL)
        return -1;
    PyObject *text = self->reply_bytes == 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize((const char *)self->replies, self->reply_bytes);
    int failed = text == NULL || (text != Py_None && PyList_Append(self->answers, text) < 0);
    self->reply_bytes = 0;
    Py_XDECREF(text);
    return failed ? -1 : 0;
}

/* One Fetch. It ends the turn: its reply comes later, or is perhaps large and has to be counted before the next request. */
static PyObject *serve_one_fetch(Produce *self, PyObject *connection, uint8_t *frame, Py_ssize_t size, double arrival_s)
{
    PyObject *answer = serve_fetch(self->fetches, connection, frame, size, arrival_s);
    if (answer == NULL || answer == Py_None)
        return answer;
    self->is_over = 1;
    if (answer != Py_True) {
        Py_ssize_t count = gather_replies(self) < 0 ? -1 : PyList_Size(self->answers);
        if (count < 0 || PyList_SetSlice(self->answers, count, count, answer) < 0) {
            Py_DECREF(answer);
            return NULL;
        }
    }
    Py_DECREF(answer);
    Py_RETURN_TRUE;
}

PyObject *serve_frame(Produce *self, PyObject *connection, uint8_t *frame, Py_ssize_t size, double arrival_s)
{
    int is_fetch = self->fetches != Py_None && size >= 2 && size <= FETCH_BYTES_MAX && int16_at(frame) == FETCH_KEY;
    self->is_over = 0;
    return is_fetch ? serve_one_fetch(self, connection, frame, size, arrival_s)
                    : serve_produce(self, connection, frame, size, arrival_s);
}

PyObject *taken_replies(Produce *self)
{
    PyObject *answers = gather_replies(self) < 0 ? NULL : Py_NewRef(self->answers);
    Py_CLEAR(self->answers);
    return answers;
}

/* serve(connection, frame, arrival_s): see _compiled.pyi */
static PyObject *serve(Produce *self, PyObject *args)
{
    PyObject *connection, *frame, *outcome = NULL;
    double arrival_s;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "OOd", &connection, &frame, &arrival_s))
        return NULL;
    /* An append may wake another connection, whose next request is then served inside of this one. */
    if (self->is_busy)
        Py_RETURN_NONE;
    if (PyObject_GetBuffer(frame, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    self->is_busy = 1;
    outcome = serve_frame(self, connection, view.buf, view.len, arrival_s);
    self->is_busy = 0;
    PyBuffer_Release(&view);
    if (self->reply_bytes > 0 || self->answers != NULL) {
        PyObject *replies = outcome == NULL ? NULL : taken_replies(self);
        PyObject *sent = replies == NULL ? NULL : PyObject_CallMethodObjArgs(connection, interned[N_reply], replies, NULL);
        Py_XDECREF(replies);
        if (sent == NULL)
            Py_CLEAR(outcome);
        Py_XDECREF(sent);
        self->reply_bytes = 0;
        Py_CLEAR(self->answers);
    }
    return outcome;
}

static PyMethodDef methods[] = {
    {"serve", (PyCFunction)serve, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

OWNER_TYPE(Produce, add_produce)

int is_produce(PyObject *object) { return Py_TYPE(object)->tp_dealloc == (destructor)dealloc; }
