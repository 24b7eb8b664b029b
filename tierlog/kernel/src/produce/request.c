/* A Produce request of any served version from its frame, and the reply where every partition was appended to.

   Every length is checked against the bytes that are there. Whatever is not as in an ordinary request (a transactional id,
   tagged fields, no batch, several batches, other text than ASCII) is not for here. */
#include "produce.h"
#include "cursor.h"

#define FIRST_VERSION 3
#define LAST_VERSION 13
#define FLEXIBLE_SINCE 9
#define ZSTD_SINCE 7
#define ZSTD 4

static int read_produce_header(Cursor *cursor, Request *request)
{
    Header header;
    if (!read_header(cursor, &header) || header.key != 0 || header.version < FIRST_VERSION || header.version > LAST_VERSION)
        return NOT_FOR_HERE;
    request->version = header.version;
    request->correlation_id = header.correlation_id;
    request->client_id = header.client_id;
    request->client_id_bytes = header.client_id_bytes;
    cursor->is_flexible = request->is_flexible = request->version >= FLEXIBLE_SINCE;
    return no_tags(cursor);
}

/* One batch of magic 2 that fills its place, neither transactional nor of a codec that its version does not know. */
static int is_one_batch(const uint8_t *batch, Py_ssize_t size, int version)
{
    if (size < HEADER_BYTES || batch[MAGIC_AT] != MAGIC_V2 || int32_at(batch + 8) != size - LOG_OVERHEAD_BYTES)
        return 0;
    int attributes = int16_at(batch + ATTRIBUTES_AT);
    return attributes >= 0 && attributes <= ZSTD && (version >= ZSTD_SINCE || (attributes & COMPRESSION_MASK) != ZSTD);
}

static int read_part(Cursor *cursor, Request *request)
{
    if (request->parts_count == request->parts_max)
        return NOT_FOR_HERE;
    Part *part = &request->parts[request->parts_count];
    int32_t size;
    if (!read_int32(cursor, &part->index) || !read_count(cursor, &size) || size < 0 || !has(cursor, size))
        return NOT_FOR_HERE;
    part->batch = cursor->at;
    part->size = size;
    part->topic = request->topics_count;
    if (!is_one_batch(part->batch, size, request->version))
        return NOT_FOR_HERE;
    cursor->at += size;
    request->parts_count++;
    return no_tags(cursor);
}

static int read_topic(Cursor *cursor, Request *request)
{
    if (request->topics_count == request->parts_max)
        return NOT_FOR_HERE;
    Topic *topic = &request->topics[request->topics_count];
    if (request->version >= BY_ID_SINCE) {
        if (!has(cursor, UUID_BYTES))
            return NOT_FOR_HERE;
        topic->name = cursor->at;
        topic->name_bytes = UUID_BYTES;
        cursor->at += UUID_BYTES;
    } else if (!read_string(cursor, &topic->name, &topic->name_bytes) || !is_ascii(topic->name, topic->name_bytes)) {
        return NOT_FOR_HERE;
    }
    int32_t partitions;
    if (!read_count(cursor, &partitions) || partitions < 1 || partitions > PARTITIONS_MAX)
        return NOT_FOR_HERE;
    topic->partitions = partitions;
    for (int32_t i = 0; i < partitions; i++)
        if (!read_part(cursor, request))
            return NOT_FOR_HERE;
    request->topics_count++;
    return no_tags(cursor);
}

int read_request(uint8_t *frame, Py_ssize_t size, Request *request)
{
    Cursor cursor = {frame, frame + size, 0};
    int32_t transactional_id, topics;
    request->topics_count = request->parts_count = 0;
    if (!read_produce_header(&cursor, request))
        return NOT_FOR_HERE;
    if (cursor.is_flexible) {
        if (!read_compact(&cursor, &transactional_id))
            return NOT_FOR_HERE;
    } else {
        int length;
        if (!read_int16(&cursor, &length))
            return NOT_FOR_HERE;
        transactional_id = length;
    }
    if (transactional_id != -1 || !read_int16(&cursor, &request->acks) || request->acks < -1 || request->acks > 1
        || !read_int32(&cursor, &request->timeout_ms) || !read_count(&cursor, &topics) || topics < 1 || topics > PARTITIONS_MAX)
        return NOT_FOR_HERE;
    for (int32_t i = 0; i < topics; i++)
        if (!read_topic(&cursor, request))
            return NOT_FOR_HERE;
    return no_tags(&cursor);
}

/* -- the reply */

#define FIXED_BYTES 32
#define TOPIC_BYTES 16
#define PART_BYTES 48

Py_ssize_t reply_bytes_max(const Request *request)
{
    Py_ssize_t size = FIXED_BYTES + (Py_ssize_t)request->parts_count * PART_BYTES;
    for (int i = 0; i < request->topics_count; i++)
        size += TOPIC_BYTES + request->topics[i].name_bytes;
    return size;
}

static uint8_t *put_part(uint8_t *to, const Request *request, const Part *part)
{
    to = put16(put32(to, (uint32_t)part->index), 0);
    to = put64(put64(to, (uint64_t)part->end_offset), UINT64_MAX); /* base offset, no append time */
    if (request->version >= 5)
        to = put64(to, (uint64_t)part->log_start_offset);
    if (request->version >= 8) { /* no record errors, no message */
        to = put_count(to, 0, request->is_flexible);
        if (request->is_flexible)
            *to++ = 0;
        else
            to = put16(to, 0xffff);
    }
    if (request->is_flexible)
        *to++ = 0;
    return to;
}

Py_ssize_t write_reply(const Request *request, uint8_t *start)
{
    uint8_t *to = put32(start + 4, request->correlation_id);
    if (request->is_flexible)
        *to++ = 0;
    to = put_count(to, (uint32_t)request->topics_count, request->is_flexible);
    const Part *part = request->parts;
    for (int i = 0; i < request->topics_count; i++) {
        const Topic *topic = &request->topics[i];
        if (request->version < FLEXIBLE_SINCE)
            to = put16(to, (uint16_t)topic->name_bytes);
        else if (request->version < BY_ID_SINCE)
            to = put_compact(to, (uint32_t)topic->name_bytes);
        memcpy(to, topic->name, (size_t)topic->name_bytes);
        to = put_count(to + topic->name_bytes, (uint32_t)topic->partitions, request->is_flexible);
        for (int each = 0; each < topic->partitions; each++)
            to = put_part(to, request, part++);
        if (request->is_flexible)
            *to++ = 0;
    }
    to = put32(to, 0); /* throttle time */
    if (request->is_flexible)
        *to++ = 0;
    put32(start, (uint32_t)(to - start - 4));
    return to - start;
}
