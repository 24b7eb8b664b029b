/* Where the compressed bodies lie that are to be opened, each under a checksum that holds. */
#include "selection.h"

/* packed(data, start, end, start_offset, end_offset, left_out, bytes_max) -> ([(begin, end, codec)], stop) */
static PyObject *packed(PyObject *module, PyObject *args)
{
    Py_buffer data, left_out;
    Py_ssize_t at, end, bytes_max;
    long long start_offset, end_offset;
    if (!PyArg_ParseTuple(args, "y*nnLLy*n", &data, &at, &end, &start_offset, &end_offset, &left_out, &bytes_max))
        return NULL;
    PyObject *found = NULL, *answer = NULL;
    if (!is_within(at, end, data.len) || (found = PyList_New(0)) == NULL)
        goto done;
    struct selection selection = selected(start_offset, end_offset, &left_out);
    while (bytes_max > 0 && at < end) {
        const uint8_t *head = (const uint8_t *)data.buf + at;
        Py_ssize_t size = whole_size(head, end - at);
        if (size == 0)
            break;
        int chosen = choose(&selection, head, at);
        if (chosen == BEYOND || chosen == ODD)
            break;
        if (chosen == TAKE && is_compressed(head)) {
            if (!has_good_crc(head, size))
                break;
            PyObject *place = Py_BuildValue("(nni)", at + HEADER_BYTES, at + size, is_compressed(head));
            if (place == NULL || PyList_Append(found, place) < 0) {
                Py_XDECREF(place);
                goto done;
            }
            Py_DECREF(place);
            bytes_max -= size;
        }
        at += size;
    }
    answer = Py_BuildValue("(On)", found, at);
done:
    Py_XDECREF(found);
    PyBuffer_Release(&data);
    PyBuffer_Release(&left_out);
    return answer;
}

PyMethodDef packed_methods[] = {
    {"packed", packed, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
