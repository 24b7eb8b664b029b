/* The bytes of a Fetch reply: text between records, which are not copied. The twin is ``wire.fast_fetch``. */
#include "fetch.h"

void begin_reply(Writer *writer, uint8_t *text, int version, uint32_t correlation_id, int32_t session_id, uint32_t topics,
                 int is_committed_only)
{
    writer->start = text;
    writer->is_flexible = version >= FLEXIBLE_FETCH_SINCE;
    writer->cuts = 0;
    writer->is_committed_only = is_committed_only;
    writer->records_bytes = 0;
    uint8_t *to = put32(text + 4, correlation_id);
    if (writer->is_flexible)
        *to++ = 0;
    to = put16(put32(to, 0), 0); /* throttle time, error */
    writer->at = put_count(put32(to, (uint32_t)session_id), topics, writer->is_flexible);
}

void put_no_tags(Writer *writer)
{
    if (writer->is_flexible)
        *writer->at++ = 0;
}

void put_topic_name(Writer *writer, const uint8_t *name, int32_t name_bytes, int is_by_id, uint32_t partitions)
{
    uint8_t *to = writer->at;
    if (!is_by_id)
        to = writer->is_flexible ? put_compact(to, (uint32_t)name_bytes) : put16(to, (uint16_t)name_bytes);
    memcpy(to, name, (size_t)name_bytes);
    writer->at = put_count(to + name_bytes, partitions, writer->is_flexible);
}

/* Without an error, aborted transactions or a preferred replica. */
void put_partition(Writer *writer, const Read *read)
{
    uint8_t *to = put16(put32(writer->at, (uint32_t)read->index), 0);
    to = put64(put64(put64(to, (uint64_t)read->high_watermark), (uint64_t)read->last_stable_offset), (uint64_t)read->log_start_offset);
    to = put_count(to, writer->is_committed_only ? 0 : UINT32_MAX, writer->is_flexible);
    to = put32(to, UINT32_MAX);
    to = put_count(to, (uint32_t)read->size_bytes, writer->is_flexible);
    if (read->size_bytes > 0) {
        writer->records[writer->cuts] = read->records;
        writer->places[writer->cuts++] = to;
        writer->records_bytes += read->size_bytes;
    }
    writer->at = to;
    put_no_tags(writer);
}

static int add_bytes(PyObject *buffers, const uint8_t *start, const uint8_t *end)
{
    if (start == end)
        return 0;
    PyObject *text = PyBytes_FromStringAndSize((const char *)start, end - start);
    int failed = text == NULL || PyList_Append(buffers, text) < 0;
    Py_XDECREF(text);
    return failed;
}

/* The reply as a list of buffers; NULL with an exception. */
PyObject *finished_reply(Writer *writer)
{
    put_no_tags(writer);
    put32(writer->start, (uint32_t)(writer->at - writer->start - 4 + writer->records_bytes));
    PyObject *buffers = PyList_New(0);
    const uint8_t *start = writer->start;
    int failed = buffers == NULL;
    for (int i = 0; !failed && i < writer->cuts; i++) {
        failed = add_bytes(buffers, start, writer->places[i]) || PyList_Append(buffers, writer->records[i]) < 0;
        start = writer->places[i];
    }
    if (failed || add_bytes(buffers, start, writer->at))
        Py_CLEAR(buffers);
    return buffers;
}
