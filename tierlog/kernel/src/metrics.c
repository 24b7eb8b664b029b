/* Counts of one API's requests, as ``telemetry.requests.ApiMetrics`` keeps them. */
#include "attributes.h"

#define SUB_BITS 3
#define SUB (1 << SUB_BITS)

static Py_ssize_t bucket_of(int64_t micros, Py_ssize_t buckets)
{
    if (micros < SUB)
        return micros > 0 ? (Py_ssize_t)micros : 0;
    int shift = 63 - __builtin_clzll((unsigned long long)micros) - SUB_BITS;
    int64_t bucket = ((int64_t)shift << SUB_BITS) + (micros >> shift);
    return bucket < buckets ? (Py_ssize_t)bucket : buckets - 1;
}

static int count_version(PyObject *recorder, int version)
{
    PyObject *versions = get(recorder, N_versions), *key = PyLong_FromLong(version);
    PyObject *known = versions == NULL || key == NULL ? NULL : PyDict_GetItemWithError(versions, key);
    int64_t count = 0;
    int failed = (known == NULL && PyErr_Occurred()) || (known != NULL && as_int64(known, &count) < 0);
    if (!failed && (known == NULL || !change_int64(known, count + 1))) {
        PyObject *more = PyLong_FromLongLong(count + 1);
        failed = more == NULL || PyDict_SetItem(versions, key, more) < 0;
        Py_XDECREF(more);
    }
    Py_XDECREF(key);
    Py_XDECREF(versions);
    return failed ? -1 : 0;
}

static int count_bucket(PyObject *recorder, double took_s)
{
    PyObject *counts = get(recorder, N__counts);
    Py_ssize_t buckets = counts == NULL ? -1 : PyList_Size(counts);
    int failed = buckets <= 0;
    if (!failed) {
        Py_ssize_t bucket = bucket_of((int64_t)(took_s * 1e6), buckets);
        PyObject *known = PyList_GetItem(counts, bucket);
        int64_t count;
        failed = known == NULL || as_int64(known, &count) < 0;
        if (!failed && !change_int64(known, count + 1)) {
            PyObject *more = PyLong_FromLongLong(count + 1);
            failed = more == NULL || PyList_SetItem(counts, bucket, more) < 0;
        }
    }
    Py_XDECREF(counts);
    return failed ? -1 : 0;
}

static int raise_to(PyObject *recorder, int name, double value)
{
    PyObject *known = get(recorder, name);
    double largest = known == NULL ? 0 : PyFloat_AsDouble(known);
    Py_XDECREF(known);
    if (known == NULL || (largest == -1.0 && PyErr_Occurred()))
        return -1;
    if (value <= largest)
        return 0;
    PyObject *made = PyFloat_FromDouble(value);
    int failed = made == NULL || set(recorder, name, made) < 0;
    Py_XDECREF(made);
    return failed ? -1 : 0;
}

int record_answer(PyObject *recorder, int version, double took_s)
{
    if (add_int64(recorder, N_count, 1) < 0 || count_version(recorder, version) < 0 || count_bucket(recorder, took_s) < 0)
        return -1;
    return raise_to(recorder, N_maximum_s, took_s);
}

int record_request(PyObject *recorder, int version, double took_s)
{
    return record_answer(recorder, version, took_s) < 0 ? -1 : raise_to(recorder, N_held_max_s, took_s);
}
