/* Walks over the headers of record batches, with their checksums. */
#include "batches.h"

static inline int has_good_crc(const uint8_t *at, Py_ssize_t size)
{
    return crc32c(0, at + ATTRIBUTES_AT, (size_t)(size - ATTRIBUTES_AT)) == unsigned32(at + CRC_AT);
}

/* Half-open bounds from outside, made to fit the buffer. */
static int clip(Py_ssize_t *start, Py_ssize_t *end, Py_ssize_t size)
{
    if (*end < 0 || *end > size)
        *end = size;
    if (*start < 0 || *start > *end) {
        PyErr_SetString(PyExc_ValueError, "start lies outside of the data");
        return -1;
    }
    return 0;
}

#define FIELDS 13

static PyObject *header_of(const uint8_t *at, PyTypeObject *type)
{
    PyObject *made = PyType_GenericAlloc(type, FIELDS);
    if (made == NULL)
        return NULL;
    PyObject *fields[FIELDS] = {
        PyLong_FromLongLong(int64_at(at)),
        PyLong_FromLong(int32_at(at + 8)),
        PyLong_FromLong(int32_at(at + LEADER_EPOCH_AT)),
        PyLong_FromLong(at[MAGIC_AT]),
        PyLong_FromUnsignedLong(unsigned32(at + CRC_AT)),
        PyLong_FromLong(int16_at(at + ATTRIBUTES_AT)),
        PyLong_FromLong(int32_at(at + LAST_OFFSET_DELTA_AT)),
        PyLong_FromLongLong(int64_at(at + BASE_TIMESTAMP_AT)),
        PyLong_FromLongLong(int64_at(at + MAX_TIMESTAMP_AT)),
        PyLong_FromLongLong(int64_at(at + PRODUCER_ID_AT)),
        PyLong_FromLong(int16_at(at + PRODUCER_EPOCH_AT)),
        PyLong_FromLong(int32_at(at + BASE_SEQUENCE_AT)),
        PyLong_FromLong(int32_at(at + COUNT_AT)),
    };
    int is_whole_tuple = 1;
    for (int i = 0; i < FIELDS; i++) {
        if (fields[i] == NULL)
            is_whole_tuple = 0;
        PyTuple_SetItem(made, i, fields[i]);
    }
    if (!is_whole_tuple) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* headers(data, start, end, verify, limit, type) -> (headers, stop) */
static PyObject *headers(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t start, end, limit;
    int verify;
    PyObject *type;
    if (!PyArg_ParseTuple(args, "y*nnpnO!", &data, &start, &end, &verify, &limit, &PyType_Type, &type))
        return NULL;
    PyObject *found = NULL, *answer = NULL;
    if (!PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "headers are made as a kind of tuple");
        goto done;
    }
    if (clip(&start, &end, data.len) < 0 || (found = PyList_New(0)) == NULL)
        goto done;
    const uint8_t *bytes = data.buf;
    Py_ssize_t size;
    while (limit-- > 0 && (size = whole_size(bytes + start, end - start)) != 0) {
        if (verify && !has_good_crc(bytes + start, size))
            break;
        PyObject *header = header_of(bytes + start, (PyTypeObject *)type);
        if (header == NULL || PyList_Append(found, header) < 0) {
            Py_XDECREF(header);
            goto done;
        }
        Py_DECREF(header);
        start += size;
    }
    answer = Py_BuildValue("(On)", found, start);
done:
    Py_XDECREF(found);
    PyBuffer_Release(&data);
    return answer;
}

/* whole_below(data, end_offset) -> (stop, end offset of the last batch, -1 without one) */
static PyObject *whole_below(PyObject *module, PyObject *args)
{
    Py_buffer data;
    long long end_offset;
    if (!PyArg_ParseTuple(args, "y*L", &data, &end_offset))
        return NULL;
    const uint8_t *bytes = data.buf;
    Py_ssize_t at = 0, size;
    int64_t found = -1;
    while ((size = whole_size(bytes + at, data.len - at)) != 0) {
        int64_t base, end;
        if (!end_of_offsets(bytes + at, &base, &end) || base < 0 || end > end_offset)
            break;
        at += size;
        found = end;
    }
    PyBuffer_Release(&data);
    return Py_BuildValue("(nL)", at, (long long)found);
}

PyMethodDef scan_methods[] = {
    {"headers", headers, METH_VARARGS, NULL},
    {"whole_below", whole_below, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
