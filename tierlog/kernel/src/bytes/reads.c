/* Memory for reads that is not filled with zeros first: the caller fills all of it, or drops it. */
#include "kernel.h"

/* unfilled(size) -> a bytearray whose bytes are whatever the memory holds */
static PyObject *unfilled(PyObject *module, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    if (size == -1 && PyErr_Occurred())
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "negative size");
        return NULL;
    }
    return PyByteArray_FromStringAndSize(NULL, size);
}

PyMethodDef reads_methods[] = {
    {"unfilled", unfilled, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
