/* Bytes handed to a function of the interpreter for one call, without an object made for them. */
#include "lent.h"

/* The object that all calls share: it names bytes only while one is made. */
typedef struct {
    PyObject_HEAD
    const void *bytes; /* NULL between calls */
    Py_ssize_t size;
} Lent;

static Lent *shared;

static int open_lent(Lent *self, Py_buffer *view, int flags)
{
    if (self->bytes != NULL)
        return PyBuffer_FillInfo(view, (PyObject *)self, (void *)self->bytes, self->size, 1, flags);
    PyErr_SetString(PyExc_BufferError, "bytes are lent for one call only");
    view->obj = NULL;
    return -1;
}

static PyType_Slot slots[] = {
    {Py_bf_getbuffer, open_lent},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tierlog.kernel._compiled.Lent",
    .basicsize = sizeof(Lent),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int make_lent(void)
{
    if (shared != NULL)
        return 0;
    PyObject *type = PyType_FromSpec(&spec);
    if (type != NULL)
        shared = PyObject_New(Lent, (PyTypeObject *)type);
    Py_XDECREF(type);
    if (shared == NULL)
        return -1;
    shared->bytes = NULL;
    return 0;
}

/* A function that is not the interpreter's own may want more than a buffer, or keep it. */
static PyObject *call_with_copy(PyObject *function, PyObject **args, int count, const void *bytes, Py_ssize_t size)
{
    if ((args[1] = PyBytes_FromStringAndSize(bytes, size)) == NULL)
        return NULL;
    PyObject *answer = PyObject_Vectorcall(function, args, (size_t)count, NULL);
    Py_DECREF(args[1]);
    return answer;
}

PyObject *call_with_bytes(PyObject *function, PyObject *first, const void *bytes, Py_ssize_t size, PyObject *last)
{
    PyObject *args[] = {first, (PyObject *)shared, last};
    int count = last == NULL ? 2 : 3;
    if (!PyCFunction_CheckExact(function) || shared->bytes != NULL)
        return call_with_copy(function, args, count, bytes, size);
    shared->bytes = bytes;
    shared->size = size;
    PyObject *answer = PyObject_Vectorcall(function, args, (size_t)count, NULL);
    shared->bytes = NULL;
    return answer;
}
