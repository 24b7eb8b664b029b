/* The type ``Follow``: a follower's round with one leader broker, for ordinary answers and requests. */
#include "follow.h"
#include "owner.h"

OWNER(Follow, FOLLOW_OBJECTS)

static int initialize(Follow *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        FOLLOW_OBJECTS(NAME_FIELD) FOLLOW_NUMBERS(NAME_FIELD)
        NULL};
    PyObject *partitions, *schedule, *known_batch, *follower_fetch, *fetching, *client_id, *failed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$O!OO!O!OSOiiiiiiii", names, &PyDict_Type, &partitions, &schedule, &PyType_Type,
                                     &known_batch, &PyType_Type, &follower_fetch, &fetching, &client_id, &failed, &self->node_id,
                                     &self->source_id, &self->max_named, &self->wait_max_ms, &self->min_bytes, &self->response_bytes_max,
                                     &self->bytes_max, &self->backoff_min_ms))
        return -1;
    clear(self);
    FOLLOW_OBJECTS(TAKE_FIELD)
    return 0;
}

/* ``FetchSchedule.on_answer`` */
static int note_session(const Follow *self, int32_t session_id)
{
    int64_t epoch;
    READ(self->schedule, _session_epoch, &epoch);
    epoch = epoch == INT32_MAX ? 1 : epoch + 1;
    return set_int64(self->schedule, N__session_epoch, epoch) < 0 || set_int64(self->schedule, N__session_id, session_id) < 0 ? FAILED : FINE;
}

/* How many partitions the answer names; -1 where it is not for here. */
static Py_ssize_t answered_count(Walk walk)
{
    Answered answered;
    for (Py_ssize_t count = 0; read_answered(&walk, &answered); count++)
        if (answered.topic_id == NULL)
            return count;
    return -1;
}

/* How many partitions are left, the last ones; -1 where the answer is not for here, -2 with an exception. */
static Py_ssize_t take_answer(Follow *self, PyObject *frame, Py_buffer *view, uint32_t correlation_id, int64_t wall_clock_ms)
{
    Walk walk;
    Answered answered;
    int32_t session_id;
    if (!begin_answer(view->buf, view->len, correlation_id, &session_id, &walk))
        return -1;
    Py_ssize_t left = answered_count(walk);
    if (left < 0)
        return -1;
    if (note_session(self, session_id) != FINE)
        return -2;
    while (left > 0 && read_answered(&walk, &answered)) {
        int done = take_answered(self, &answered, wall_clock_ms);
        if (done != FINE)
            return done == FAILED ? -2 : left;
        left--;
    }
    return left;
}

/* round(frame, correlation_id, broker_epoch, now_ms, wall_clock_ms): see _compiled.pyi */
static PyObject *take_round(Follow *self, PyObject *args)
{
    PyObject *frame;
    unsigned int correlation_id;
    long long broker_epoch, now_ms, wall_clock_ms;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "OILLL", &frame, &correlation_id, &broker_epoch, &now_ms, &wall_clock_ms))
        return NULL;
    if (PyObject_GetBuffer(frame, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    Py_ssize_t left = take_answer(self, frame, &view, correlation_id, wall_clock_ms);
    PyBuffer_Release(&view);
    if (left == -2)
        return NULL;
    if (left < 0)
        Py_RETURN_NONE;
    if (left > 0)
        return PyLong_FromSsize_t(left);
    PyObject *request = next_request(self, (correlation_id + 1) & INT32_MAX, broker_epoch, now_ms);
    if (request != Py_None)
        return request;
    Py_DECREF(request);
    return PyLong_FromLong(0);
}

/* ask(correlation_id, broker_epoch, now_ms): see _compiled.pyi */
static PyObject *ask(Follow *self, PyObject *args)
{
    unsigned int correlation_id;
    long long broker_epoch, now_ms;
    if (!PyArg_ParseTuple(args, "ILL", &correlation_id, &broker_epoch, &now_ms))
        return NULL;
    return next_request(self, correlation_id, broker_epoch, now_ms);
}

static PyMethodDef methods[] = {
    {"round", (PyCFunction)take_round, METH_VARARGS, NULL},
    {"ask", (PyCFunction)ask, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

OWNER_TYPE(Follow, add_follow)
