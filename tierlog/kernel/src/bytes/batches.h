/* One record batch among bytes that may be anything, as ``parse_header`` and the walks in Python see it. */
#ifndef TIERLOG_BATCHES_H
#define TIERLOG_BATCHES_H

#include "kernel.h"

#define UNLOCKED_FROM_BYTES (256 << 10)

/* The size of the whole batch that begins at ``at``, of which ``left`` bytes are there; 0 if there is none. Read once: mapped
   bytes may change under a walk, and what was checked must be what is used. */
static inline Py_ssize_t whole_size(const uint8_t *at, Py_ssize_t left)
{
    if (left < HEADER_BYTES || at[MAGIC_AT] != MAGIC_V2 || int32_at(at + LAST_OFFSET_DELTA_AT) < 0)
        return 0;
    int32_t length = int32_at(at + 8);
    __asm__ volatile("" : "+r"(length));
    if (length < HEADER_BYTES - LOG_OVERHEAD_BYTES || length > left - LOG_OVERHEAD_BYTES)
        return 0;
    return LOG_OVERHEAD_BYTES + (Py_ssize_t)length;
}

static inline int has_good_crc(const uint8_t *at, Py_ssize_t size)
{
    return crc32c(0, at + ATTRIBUTES_AT, (size_t)(size - ATTRIBUTES_AT)) == unsigned32(at + CRC_AT);
}

/* Behind the batch's last offset; 0 where a batch cannot have these offsets. */
static inline int end_of_offsets(const uint8_t *at, int64_t *base, int64_t *end)
{
    *base = int64_at(at);
    return !__builtin_add_overflow(*base, (int64_t)int32_at(at + LAST_OFFSET_DELTA_AT) + 1, end) && *end > *base;
}

#endif
