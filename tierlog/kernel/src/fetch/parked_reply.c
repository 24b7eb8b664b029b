/* The reply to a fetch that was parked, to its socket at once where nothing else is under way on its connection.

   The twin is ``Connection.answer`` with what it calls. */
#include "fetches.h"
#include "produce.h"

/* Nothing has been received that would have to be looked at now. */
static int is_empty(PyObject *connection)
{
    int64_t start, end;
    PyObject *frames = get(connection, N__frames);
    int is_shared = frames == NULL ? FAILED : is_object(frames, N__private, Py_None);
    int failed = is_shared < 0 || get_int64(frames, N__start, &start) < 0 || get_int64(frames, N__end, &end) < 0;
    Py_XDECREF(frames);
    return failed ? FAILED : is_shared && start == end;
}

static int is_alone(PyObject *pending, PyObject *slot)
{
    Py_ssize_t count = PyObject_Size(pending);
    PyObject *first = count == 1 ? PySequence_GetItem(pending, 0) : NULL;
    Py_XDECREF(first);
    return count < 0 || PyErr_Occurred() ? FAILED : first == slot;
}

static int may_leave(PyObject *connection, PyObject *pending, PyObject *slot)
{
    WANT(is_alone(pending, slot));
    WANT_NOT(is_true(connection, N__in_process));
    WANT_NOT(is_true(connection, N_closing));
    WANT_NOT(is_true(connection, N__outgoing));
    WANT_NOT(is_true(connection, N__is_draining));
    WANT(is_empty(connection));
    PyObject *writer = get(connection, N__writer);
    int is_open = writer == NULL ? FAILED : takes_bytes(writer);
    Py_XDECREF(writer);
    return is_open;
}

/* Writes as much as the socket takes, which ``sent`` says. */
static int write_buffers(PyObject *writev, PyObject *connection, PyObject *buffers, int64_t *sent)
{
    PyObject *writer = get(connection, N__writer), *fd = writer == NULL ? NULL : get(writer, N__fd);
    PyObject *answer = fd == NULL ? NULL : PyObject_CallFunctionObjArgs(writev, fd, buffers, NULL);
    Py_XDECREF(fd);
    Py_XDECREF(writer);
    *sent = 0;
    int failed = answer == NULL || as_int64(answer, sent) < 0;
    Py_XDECREF(answer);
    if (!failed)
        return FINE;
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return FAILED;
    PyErr_Clear();
    return FINE;
}

static int64_t size_of(PyObject *buffers)
{
    int64_t size = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(buffers); i++) {
        Py_ssize_t each = PyObject_Size(PyList_GET_ITEM(buffers, i));
        if (each < 0)
            return -1;
        size += each;
    }
    return size;
}

static int read_on(PyObject *connection)
{
    int is_reading = is_true(connection, N__reading);
    PyObject *done = is_reading != 0 ? NULL : PyObject_CallMethodNoArgs(connection, interned[N_set_reading]);
    Py_XDECREF(done);
    return is_reading < 0 || (is_reading == 0 && done == NULL) ? FAILED : FINE;
}

/* NOT_FOR_HERE: the connection has to see to it, and nothing was changed. */
int send_parked(PyObject *writev, PyObject *connection, PyObject *slot, PyObject *buffers)
{
    int64_t sent, size = size_of(buffers);
    if (size < 0)
        return FAILED;
    if (PyList_GET_SIZE(buffers) > BUFFERS_MAX)
        return NOT_FOR_HERE;
    PyObject *pending = get(connection, N__pending);
    int step = pending == NULL ? FAILED : may_leave(connection, pending, slot);
    if (step == FINE) {
        PyObject *taken = PyObject_CallMethodNoArgs(pending, interned[N_popleft]);
        step = taken == NULL ? FAILED : write_buffers(writev, connection, buffers, &sent);
        Py_XDECREF(taken);
        if (step == FINE && sent < size)
            step = leave_rest(connection, buffers, sent);
        if (step == FINE)
            step = read_on(connection);
    }
    Py_XDECREF(pending);
    return step;
}
