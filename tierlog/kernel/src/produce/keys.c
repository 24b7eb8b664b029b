/* Which partition a request names, in one of the tables of those hosted.

   A few keys that were made are kept: a key is made of nothing but the bytes of a request, so that it never is out of date. So
   is what a table had for it, for as long as the table says that it has not changed since. */
#include "produce.h"

/* Of each kind. */
#define KEPT 256
/* A number that each change of any dictionary takes anew; later versions do not promise it. */
#define HAS_VERSIONS (PY_VERSION_HEX < 0x030C0000)

typedef struct {
    PyObject *key; /* NULL: none */
    uint64_t version;
    PyObject *found; /* borrowed from the table of that version; NULL: not known */
} Kept;

static Kept all_kept[2][KEPT];

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

static PyObject *look_up(PyObject *table, Kept *kept)
{
    PyObject *key = Py_NewRef(kept->key), *found = PyDict_GetItemWithError(table, key);
    Py_XINCREF(found);
#if HAS_VERSIONS
    if (kept->key == key) {
        kept->found = found;
        kept->version = ((PyDictObject *)table)->ma_version_tag;
    }
#endif
    Py_DECREF(key);
    return found;
}

PyObject *hosted(PyObject *table, int is_by_id, const uint8_t *name, Py_ssize_t name_bytes, int32_t index)
{
    unsigned ends = name_bytes > 0 ? 31u * name[0] + 7u * name[name_bytes - 1] : 0;
    Kept *kept = &all_kept[is_by_id != 0][(ends + (unsigned)index) % KEPT];
    if (kept->key == NULL || !is_of(kept->key, is_by_id, name, name_bytes, index)) {
        PyObject *made = make_key(is_by_id, name, name_bytes, index);
        if (made == NULL)
            return NULL;
        kept->found = NULL;
        put_in(&kept->key, made);
    }
#if HAS_VERSIONS
    if (kept->found != NULL && kept->version == ((PyDictObject *)table)->ma_version_tag)
        return Py_NewRef(kept->found);
#endif
    return look_up(table, kept);
}
