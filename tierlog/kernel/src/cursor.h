/* Fields of a message, read with every length checked against the bytes that are there, and fields that are written. */
#ifndef TIERLOG_CURSOR_H
#define TIERLOG_CURSOR_H

#include "kernel.h"

#define UUID_BYTES 16

typedef struct {
    uint8_t *at, *end;
    int is_flexible;
} Cursor;

static inline int has(const Cursor *cursor, Py_ssize_t size) { return cursor->end - cursor->at >= size; }

static inline int read_int16(Cursor *cursor, int *value)
{
    if (!has(cursor, 2))
        return NOT_FOR_HERE;
    *value = int16_at(cursor->at);
    cursor->at += 2;
    return FINE;
}

static inline int read_int32(Cursor *cursor, int32_t *value)
{
    if (!has(cursor, 4))
        return NOT_FOR_HERE;
    *value = int32_at(cursor->at);
    cursor->at += 4;
    return FINE;
}

static inline int read_int64(Cursor *cursor, int64_t *value)
{
    if (!has(cursor, 8))
        return NOT_FOR_HERE;
    *value = int64_at(cursor->at);
    cursor->at += 8;
    return FINE;
}

/* A length as compact types have it, one more than it is; -1 stands for null. */
static inline int read_compact(Cursor *cursor, int32_t *length)
{
    uint32_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        if (!has(cursor, 1))
            return NOT_FOR_HERE;
        uint8_t byte = *cursor->at++;
        if (shift == 28 && byte > 7)
            return NOT_FOR_HERE;
        value |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *length = (int32_t)value - 1;
            return FINE;
        }
    }
    return NOT_FOR_HERE;
}

static inline int read_count(Cursor *cursor, int32_t *count)
{
    return cursor->is_flexible ? read_compact(cursor, count) : read_int32(cursor, count);
}

static inline int read_string(Cursor *cursor, const uint8_t **text, int32_t *size)
{
    int length;
    if (cursor->is_flexible) {
        if (!read_compact(cursor, size))
            return NOT_FOR_HERE;
    } else {
        if (!read_int16(cursor, &length))
            return NOT_FOR_HERE;
        *size = length;
    }
    if (*size < 0 || !has(cursor, *size))
        return NOT_FOR_HERE;
    *text = cursor->at;
    cursor->at += *size;
    return FINE;
}

static inline int no_tags(Cursor *cursor)
{
    if (!cursor->is_flexible)
        return FINE;
    if (!has(cursor, 1) || *cursor->at != 0)
        return NOT_FOR_HERE;
    cursor->at++;
    return FINE;
}

static inline int is_ascii(const uint8_t *text, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++)
        if (text[i] >= 0x80)
            return 0;
    return 1;
}

typedef struct {
    int key, version;
    uint32_t correlation_id;
    const uint8_t *client_id;
    int client_id_bytes; /* -1: null */
} Header;

/* A request's header up to its tagged fields. */
static inline int read_header(Cursor *cursor, Header *header)
{
    int32_t correlation_id;
    if (!read_int16(cursor, &header->key) || !read_int16(cursor, &header->version) || !read_int32(cursor, &correlation_id)
        || !read_int16(cursor, &header->client_id_bytes) || header->client_id_bytes < -1)
        return NOT_FOR_HERE;
    header->correlation_id = (uint32_t)correlation_id;
    header->client_id = cursor->at;
    if (header->client_id_bytes > 0) {
        if (!has(cursor, header->client_id_bytes) || !is_ascii(cursor->at, header->client_id_bytes))
            return NOT_FOR_HERE;
        cursor->at += header->client_id_bytes;
    }
    return FINE;
}

/* -- the reply */

static inline uint8_t *put16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
    return to + 2;
}

static inline uint8_t *put32(uint8_t *to, uint32_t value) { return put16(put16(to, (uint16_t)(value >> 16)), (uint16_t)value); }
static inline uint8_t *put64(uint8_t *to, uint64_t value) { return put32(put32(to, (uint32_t)(value >> 32)), (uint32_t)value); }

static inline uint8_t *put_compact(uint8_t *to, uint32_t length)
{
    uint32_t value = length + 1;
    for (; value > 0x7f; value >>= 7)
        *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

static inline uint8_t *put_count(uint8_t *to, uint32_t count, int is_flexible)
{
    return is_flexible ? put_compact(to, count) : put32(to, count);
}

#endif
