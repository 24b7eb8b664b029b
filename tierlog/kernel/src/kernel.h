/* What the parts of the kernel share: big-endian reads, CRC32C, and the table of functions of each part.

   The kernel makes no system call, keeps no state between calls (but see attributes.h, keys.c), and says nothing about errors: where it meets anything
   that it does not know, it stops, and the caller lets the Python code look at the same bytes. */
#ifndef TIERLOG_KERNEL_H
#define TIERLOG_KERNEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* What a step says; FAILED with an exception. */
#define NOT_FOR_HERE 0
#define FINE 1
#define FAILED (-1)

#define HEADER_BYTES 61
#define LOG_OVERHEAD_BYTES 12
#define LEADER_EPOCH_AT 12
#define MAGIC_AT 16
#define CRC_AT 17
#define ATTRIBUTES_AT 21
#define LAST_OFFSET_DELTA_AT 23
#define BASE_TIMESTAMP_AT 27
#define MAX_TIMESTAMP_AT 35
#define PRODUCER_ID_AT 43
#define PRODUCER_EPOCH_AT 51
#define BASE_SEQUENCE_AT 53
#define COUNT_AT 57
#define MAGIC_V2 2
/* Of an index entry, from its segment's base. */
#define MAX_RELATIVE_OFFSET INT32_MAX
#define COMPRESSION_MASK 0x07
#define TRANSACTIONAL_BIT 0x10
#define CONTROL_BIT 0x20

static inline uint64_t unsigned64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

static inline uint32_t unsigned32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

static inline int64_t int64_at(const uint8_t *at) { return (int64_t)unsigned64(at); }
static inline int32_t int32_at(const uint8_t *at) { return (int32_t)unsigned32(at); }
static inline int16_t int16_at(const uint8_t *at) { return (int16_t)((uint16_t)at[0] << 8 | at[1]); }

/* A kind of tuple with these fields, which are taken over; NULL with an exception, as where a field is NULL. */
static inline PyObject *tuple_of(PyObject *type, PyObject **fields, Py_ssize_t count)
{
    PyObject *made = PyType_GenericAlloc((PyTypeObject *)type, count);
    int is_whole = made != NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        is_whole &= fields[i] != NULL;
        if (made == NULL)
            Py_XDECREF(fields[i]);
        else
            PyTuple_SetItem(made, i, fields[i]);
    }
    if (!is_whole)
        Py_CLEAR(made);
    return made;
}

/* crc32c.c */
void choose_crc32c(void);
const char *crc32c_name(void);
uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t size);
/* For the checksum of two runs from theirs: the first one's in front of so many bytes (below 4 GiB), XOR the second one's. */
uint32_t crc32c_in_front(uint32_t crc, size_t bytes);
/* From so many bytes on this is sooner done than reading them from the cache again. */
size_t crc32c_joined_from(void);

/* produce.c */
int add_produce(PyObject *module);

/* follow.c */
int add_follow(PyObject *module);

/* fetches.c */
int add_fetches(PyObject *module);

/* metrics.c: ``ApiMetrics.record``, and with ``held``; -1 with an exception. */
int record_answer(PyObject *recorder, int version, double took_s);
int record_request(PyObject *recorder, int version, double took_s);

/* scan.c */
extern PyMethodDef scan_methods[];
/* reads.c */
extern PyMethodDef reads_methods[];
/* received.c */
extern PyMethodDef received_methods[];
/* segment.c */
extern PyMethodDef segment_methods[];

/* columns.c */
extern PyMethodDef columns_methods[];
int add_reasons(PyObject *module);

/* offsets.c */
extern PyMethodDef offsets_methods[];

/* packed.c */
extern PyMethodDef packed_methods[];

#endif
