/* Replies of one turn on their way to the connection, or past it to its socket.

   The twin is ``Connection._send`` and ``SocketWriter.write``. */
#include "produce.h"
#include "lent.h"

/* To be sent before those of a fetch that the twin has answered meanwhile; behind places that are kept, in one more. */
int hand_over(Produce *self, PyObject *connection)
{
    if (self->reply_bytes == 0 && self->answers == NULL)
        return 0;
    int waits = is_true(connection, N__pending);
    PyObject *replies = waits < 0 ? NULL : taken_replies(self), *done = NULL;
    if (replies != NULL && waits) {
        done = PyObject_CallMethodObjArgs(connection, interned[N_reply], replies, NULL);
    } else if (replies != NULL) {
        PyObject *others = get(connection, N__outgoing);
        if (others != NULL && PyList_SetSlice(replies, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, others) == 0
            && set(connection, N__outgoing, replies) == 0)
            done = Py_NewRef(Py_None);
        Py_XDECREF(others);
    }
    Py_XDECREF(replies);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether an answer of the transport's is zero or False; FAILED with an exception. */
static int says_no(PyObject *transport, int name)
{
    PyObject *said = PyObject_CallMethodNoArgs(transport, interned[name]);
    int is_so = said == NULL ? FAILED : said == Py_False ? 0 : PyObject_IsTrue(said);
    Py_XDECREF(said);
    return is_so < 0 ? FAILED : !is_so;
}

int takes_bytes(PyObject *writer)
{
    int64_t fd;
    READ(writer, _fd, &fd);
    if (fd < 0)
        return NOT_FOR_HERE;
    PyObject *transport = get(writer, N__transport);
    int is_idle = transport == NULL ? FAILED : says_no(transport, N_is_closing);
    if (is_idle == 1)
        is_idle = says_no(transport, N_get_write_buffer_size);
    Py_XDECREF(transport);
    return is_idle;
}

/* Whether nothing is before these replies. */
static int may_pass(PyObject *connection, PyObject *writer)
{
    WANT_NOT(is_true(connection, N_closing));
    WANT_NOT(is_true(connection, N__outgoing));
    WANT_NOT(is_true(connection, N__pending));
    return takes_bytes(writer);
}

/* FINE: all of it is with the socket. NOT_FOR_HERE: as much as ``sent`` says. */
static int write_replies(Produce *self, PyObject *writer, int64_t *sent)
{
    PyObject *fd = get(writer, N__fd);
    PyObject *answer = fd == NULL ? NULL : call_with_bytes(self->write, fd, self->replies, self->reply_bytes, NULL);
    Py_XDECREF(fd);
    *sent = 0;
    int failed = answer == NULL || as_int64(answer, sent) < 0;
    Py_XDECREF(answer);
    if (!failed)
        return *sent == self->reply_bytes;
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return FAILED;
    PyErr_Clear();
    return NOT_FOR_HERE;
}

int leave_rest(PyObject *connection, PyObject *buffers, int64_t sent)
{
    PyObject *count = PyLong_FromLongLong(sent);
    PyObject *told = count == NULL ? NULL : PyObject_CallMethodObjArgs(connection, interned[N__sent_partly], buffers, count, NULL);
    Py_XDECREF(count);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

static int leave_replies(Produce *self, PyObject *connection, int64_t sent)
{
    PyObject *replies = taken_replies(self);
    int step = replies == NULL ? FAILED : leave_rest(connection, replies, sent);
    Py_XDECREF(replies);
    return step;
}

int send_replies(Produce *self, PyObject *connection)
{
    int64_t sent;
    PyObject *writer = get(connection, N__writer);
    int step = writer == NULL ? FAILED : may_pass(connection, writer);
    if (step == NOT_FOR_HERE) {
        step = hand_over(self, connection) < 0 ? FAILED : FINE;
        if (step == FINE && (step = is_true(connection, N__outgoing)) == 1)
            step = call(connection, N__send);
        step = step < 0 ? FAILED : FINE;
    } else if (step == FINE) {
        self->is_busy = 1;
        step = write_replies(self, writer, &sent);
        self->is_busy = 0;
        if (step == NOT_FOR_HERE)
            step = leave_replies(self, connection, sent);
    }
    self->reply_bytes = 0;
    Py_XDECREF(writer);
    return step;
}
