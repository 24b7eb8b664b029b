/* What a read has brought to a connection: whether the kernel may look at it, and the whole frames in it.

   The twins are ``Connection.get_buffer`` and ``buffer_updated``; the names here are those of its attributes and of
   ``FrameBuffer``'s. */
#include "produce.h"

/* Then the loop may see to others. */
#define FRAMES_OF_A_TURN 64
/* As the connection's own. */
#define MAX_PIPELINED 64
#define PRODUCE_KEY 0
#define SEEN(name) \
    do { \
        int said = is_true(connection, N_##name); \
        if (said != 0) \
            return said < 0 ? FAILED : 0; \
    } while (0)

static int has_no_room(PyObject *memory)
{
    int64_t used_bytes, limit_bytes;
    if (get_int64(memory, N_used_bytes, &used_bytes) < 0 || get_int64(memory, N_limit_bytes, &limit_bytes) < 0)
        return FAILED;
    return used_bytes >= limit_bytes;
}

/* How many replies wait, all of requests behind which the next one may be served; -1 with an exception, -2 if it may not. */
static Py_ssize_t pipelined_count(PyObject *connection)
{
    PyObject *pending = get(connection, N__pending);
    Py_ssize_t count = pending == NULL ? -1 : PyObject_Size(pending);
    PyObject *last = count > 0 ? PySequence_GetItem(pending, count - 1) : NULL;
    int may_pass = count > 0 ? last == NULL ? FAILED : is_true(last, N_pipelined) : 1;
    Py_XDECREF(last);
    Py_XDECREF(pending);
    return count < 0 || may_pass < 0 ? -1 : may_pass && count < MAX_PIPELINED ? count : -2;
}

/* Whether nothing stands before the next frame. */
static int is_at_rest(PyObject *connection)
{
    SEEN(_in_process);
    SEEN(closing);
    SEEN(held_bytes);
    SEEN(_muted_until_s);
    SEEN(_awaits_memory);
    SEEN(_awaits_turn);
    PyObject *memory = get(connection, N__reply_memory);
    int is_exhausted = memory == NULL ? FAILED : has_no_room(memory);
    Py_XDECREF(memory);
    if (is_exhausted != 0)
        return is_exhausted < 0 ? FAILED : 0;
    PyObject *turns = get(connection, N__receive_turns);
    int is_its_turn = turns == NULL ? FAILED : is_object(turns, N_turn, connection);
    Py_XDECREF(turns);
    return is_its_turn < 0 ? FAILED : !is_its_turn;
}

/* Takes note of the bytes that came, whoever looks at them. */
static int note(PyObject *connection, PyObject *frames, PyObject *now, Py_ssize_t count)
{
    if (set(connection, N_last_active_s, now) < 0)
        return FAILED;
    return add_int64(frames, N__end, count) < 0 ? FAILED : FINE;
}

static void close_frames(Received *opened)
{
    PyBuffer_Release(&opened->bytes);
    Py_DECREF(opened->view);
}

static int open_frames(PyObject *frames, Received *opened)
{
    if (get_int64(frames, N__start, &opened->start) < 0 || get_int64(frames, N__end, &opened->end) < 0
        || get_int64(frames, N_max_frame_bytes, &opened->bytes_max) < 0)
        return FAILED;
    PyObject *view = get(frames, N__view);
    if (view == NULL || PyObject_GetBuffer(view, &opened->bytes, PyBUF_WRITABLE) < 0) {
        Py_XDECREF(view);
        return FAILED;
    }
    opened->view = view;
    if (opened->start >= 0 && opened->start <= opened->end && opened->end <= opened->bytes.len)
        return FINE;
    close_frames(opened);
    PyErr_SetString(PyExc_ValueError, "received bytes lie outside of their memory");
    return FAILED;
}

int64_t next_size(const Received *opened)
{
    if (opened->end - opened->start < SIZE_PREFIX_BYTES)
        return -1;
    int64_t size = int32_at((const uint8_t *)opened->bytes.buf + opened->start);
    return size >= 0 && size <= opened->bytes_max && size <= opened->end - opened->start - SIZE_PREFIX_BYTES ? size : -1;
}

/* Serves frames up to the first that is not for here. */
static int serve_frames(Produce *self, PyObject *connection, Received *opened, double arrival_s)
{
    for (int i = 0; i < FRAMES_OF_A_TURN; i++) {
        self->is_over = 0;
        int64_t size = next_size(opened), body = opened->start + SIZE_PREFIX_BYTES;
        Py_ssize_t before = size < 0 ? -2 : pipelined_count(connection);
        if (before == -1)
            return FAILED;
        /* Behind replies that wait, only a Produce keeps to the order here. */
        if (before < 0 || (before > 0 && (size < 2 || int16_at((const uint8_t *)opened->bytes.buf + body) != PRODUCE_KEY)))
            return FINE;
        int together = before > 0 ? 0 : serve_run(self, connection, opened, arrival_s);
        if (together < 0)
            return FAILED;
        if (together > 0) {
            opened->start = self->run[together - 1].end;
            i += together - 1;
        }
        if (self->is_over)
            return FINE;
        if (together > 0)
            continue;
        PyObject *outcome = serve_frame(self, connection, (uint8_t *)opened->bytes.buf + body, size, arrival_s);
        int is_served = outcome == Py_True;
        int failed = outcome == NULL;
        if (!failed && !is_served && outcome != Py_None)
            /* The handler goes on with it; the frame is still the next one. */
            failed = set(connection, N_appended, outcome) < 0;
        Py_XDECREF(outcome);
        if (failed)
            return FAILED;
        if (!is_served)
            return FINE;
        opened->start = body + size;
        if (self->is_over)
            return FINE;
    }
    return FINE;
}

/* Where the frames stand now: 1 if that was all, and the memory is as at the beginning. */
static int settle(PyObject *frames, const Received *opened)
{
    int is_shared = is_object(frames, N__private, Py_None);
    if (is_shared < 0)
        return FAILED;
    int is_all = is_shared && opened->start == opened->end;
    if (set_int64(frames, N__start, is_all ? 0 : opened->start) < 0 || (is_all && set_int64(frames, N__end, 0) < 0))
        return FAILED;
    return is_all;
}

static int forget_partial(PyObject *connection)
{
    int is_partial = is_true(connection, N_partial_since_s);
    if (is_partial <= 0)
        return is_partial < 0 ? FAILED : FINE;
    PyObject *never = PyFloat_FromDouble(0);
    int failed = never == NULL || set(connection, N_partial_since_s, never) < 0;
    Py_XDECREF(never);
    return failed ? FAILED : FINE;
}

/* What is behind the frames: 1 if all was served, and the replies of produces alone are still to be sent; 0 if the connection
   has to go on itself, and has the replies. */
static int conclude(Produce *self, PyObject *connection, PyObject *frames, const Received *opened)
{
    int is_all = is_true(connection, N_closing);
    if (is_all == 0)
        is_all = settle(frames, opened);
    if (is_all < 0 || ((!is_all || self->answers != NULL) && hand_over(self, connection) < 0))
        return FAILED;
    return is_all;
}

static int serve_received(Produce *self, PyObject *connection, PyObject *frames, double arrival_s)
{
    Received opened;
    if (open_frames(frames, &opened) != FINE)
        return FAILED;
    int64_t start = opened.start;
    self->is_busy = 1;
    int step = serve_frames(self, connection, &opened, arrival_s);
    if (step == FINE && start != opened.start)
        step = forget_partial(connection);
    self->is_busy = 0;
    close_frames(&opened);
    return step == FINE ? conclude(self, connection, frames, &opened) : FAILED;
}

/* While frames are served, replies that become ready wait for the rest. */
static int process(Produce *self, PyObject *connection, PyObject *frames, double arrival_s)
{
    if (set(connection, N__in_process, Py_True) < 0)
        return FAILED;
    int is_all = serve_received(self, connection, frames, arrival_s);
    if (is_all >= 0)
        return set(connection, N__in_process, Py_False) < 0 ? FAILED : is_all;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    self->reply_bytes = 0;
    Py_CLEAR(self->answers);
    if (set(connection, N__in_process, Py_False) < 0)
        PyErr_Clear();
    PyErr_Restore(type, error, trace);
    return FAILED;
}

/* Takes note of the bytes that came and serves the frames in them, if nothing stands before the next one. */
static int take(Produce *self, PyObject *connection, Py_ssize_t count)
{
    PyObject *now = PyObject_CallNoArgs(self->clock), *frames = get(connection, N__frames);
    int step = now == NULL || frames == NULL ? FAILED : note(connection, frames, now, count);
    if (step == FINE && (step = self->is_busy ? 0 : is_at_rest(connection)) == 1)
        step = process(self, connection, frames, PyFloat_AsDouble(now));
    Py_XDECREF(frames);
    Py_XDECREF(now);
    return step;
}

/* The connection says what becomes of it. */
static int fail(PyObject *connection)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return FAILED;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        PyException_SetTraceback(error, trace);
    PyObject *told = PyObject_CallMethodOneArg(connection, interned[N__fail], error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

/* Sends the replies: where others of the same read come behind them only large ones, which are lists of their own. */
static int send_gathered(PyObject *connection, int is_all)
{
    PyObject *outgoing = get(connection, N__outgoing);
    Py_ssize_t count = outgoing == NULL ? -1 : PyList_Size(outgoing);
    Py_XDECREF(outgoing);
    if (count < 0)
        return FAILED;
    return count > (is_all ? 0 : 1) ? call(connection, N__send) : FINE;
}

static int go_on(Produce *self, PyObject *connection, int is_all)
{
    TRY(self->reply_bytes > 0 ? send_replies(self, connection) : send_gathered(connection, is_all));
    if (!is_all)
        return call(connection, N__process);
    int is_reading = is_true(connection, N__reading);
    return is_reading == 0 ? call(connection, N_set_reading) : is_reading;
}

/* What serves the requests of the connection, if that is this kernel: a new reference; NULL without an exception, too. */
static Produce *hot_of(PyObject *connection)
{
    PyObject *dispatcher = get(connection, N_dispatcher);
    PyObject *hot = dispatcher == NULL ? NULL : get(dispatcher, N_hot);
    Py_XDECREF(dispatcher);
    if (hot != NULL && !is_produce(hot))
        Py_CLEAR(hot);
    return (Produce *)hot;
}

/* ``Connection.buffer_updated``, bound to its twin. */
static PyObject *buffer_updated(PyObject *twin, PyObject *const *args, Py_ssize_t args_count)
{
    Produce *self = args_count == 2 ? hot_of(args[0]) : NULL;
    if (self == NULL)
        return PyErr_Occurred() ? NULL : PyObject_Vectorcall(twin, args, (size_t)args_count, NULL);
    int64_t count;
    int done = as_int64(args[1], &count) < 0 ? FAILED : FINE;
    if (done == FINE) {
        int is_all = take(self, args[0], (Py_ssize_t)count);
        done = is_all < 0 ? fail(args[0]) : go_on(self, args[0], is_all);
    }
    Py_DECREF((PyObject *)self);
    if (done == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

/* ``FrameBuffer.writable`` where nothing is held and there is memory: a new reference; NULL where it is not so. */
static PyObject *whole_scratch(PyObject *connection)
{
    PyObject *frames = get(connection, N__frames), *memory = frames == NULL ? NULL : get(frames, N__memory), *view = NULL;
    int64_t end;
    if (memory != NULL && get_int64(frames, N__end, &end) == 0 && end == 0 && is_object(frames, N__private, Py_None) == 1
        && has_no_room(memory) == 0)
        view = get(frames, N__view);
    Py_XDECREF(memory);
    Py_XDECREF(frames);
    return view;
}

/* ``Connection.get_buffer``, bound to its twin. */
static PyObject *get_buffer(PyObject *twin, PyObject *const *args, Py_ssize_t args_count)
{
    PyObject *view = args_count == 2 ? whole_scratch(args[0]) : NULL;
    if (view != NULL)
        return view;
    PyErr_Clear();
    return PyObject_Vectorcall(twin, args, (size_t)args_count, NULL);
}

static PyMethodDef bound[] = {
    {"get_buffer", (PyCFunction)(void (*)(void))get_buffer, METH_FASTCALL, NULL},
    {"buffer_updated", (PyCFunction)(void (*)(void))buffer_updated, METH_FASTCALL, NULL},
};

/* A method of a class that is written in Python. */
static PyObject *method_of(PyMethodDef *definition, PyObject *twin)
{
    PyObject *function = PyCFunction_New(definition, twin);
    PyObject *method = function == NULL ? NULL : PyInstanceMethod_New(function);
    Py_XDECREF(function);
    return method;
}

static PyObject *with_get_buffer(PyObject *module, PyObject *twin) { return method_of(&bound[0], twin); }
static PyObject *with_buffer_updated(PyObject *module, PyObject *twin) { return method_of(&bound[1], twin); }

/* See _compiled.pyi. */
PyMethodDef received_methods[] = {
    {"get_buffer", with_get_buffer, METH_O, NULL},
    {"buffer_updated", with_buffer_updated, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
