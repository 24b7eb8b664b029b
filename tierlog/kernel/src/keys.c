/* Keys of the tables of hosted partitions, from the bytes of a request.

   A few that were made are kept: a key is made of nothing but those bytes, so that it never is out of date. */
#include "produce.h"

/* Of each kind. */
#define KEPT 256

static PyObject *kept[2][KEPT];

static int is_of(PyObject *key, int is_by_id, const uint8_t *name, Py_ssize_t name_bytes, int32_t index)
{
    PyObject *first = PyTuple_GET_ITEM(key, 0);
    int64_t own;
    if (as_int64(PyTuple_GET_ITEM(key, 1), &own) < 0 || own != index)
        return 0;
    if (is_by_id)
        return PyBytes_GET_SIZE(first) == name_bytes && memcmp(PyBytes_AS_STRING(first), name, (size_t)name_bytes) == 0;
    return PyUnicode_IS_ASCII(first) && PyUnicode_GET_LENGTH(first) == name_bytes
        && memcmp(PyUnicode_1BYTE_DATA(first), name, (size_t)name_bytes) == 0;
}

static PyObject *make_key(int is_by_id, const uint8_t *name, Py_ssize_t name_bytes, int32_t index)
{
    PyObject *first = is_by_id ? PyBytes_FromStringAndSize((const char *)name, name_bytes)
                               : PyUnicode_FromStringAndSize((const char *)name, name_bytes);
    return first == NULL ? NULL : Py_BuildValue("(Ni)", first, (int)index);
}

PyObject *key_of(int is_by_id, const uint8_t *name, Py_ssize_t name_bytes, int32_t index)
{
    unsigned ends = name_bytes > 0 ? 31u * name[0] + 7u * name[name_bytes - 1] : 0;
    PyObject **place = &kept[is_by_id != 0][(ends + (unsigned)index) % KEPT];
    if (*place == NULL || !is_of(*place, is_by_id, name, name_bytes, index)) {
        PyObject *made = make_key(is_by_id, name, name_bytes, index);
        if (made == NULL)
            return NULL;
        put_in(place, made);
    }
    return Py_NewRef(*place);
}
