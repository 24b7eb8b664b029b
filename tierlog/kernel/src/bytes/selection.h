/* Which batches are read: by the offsets that are wanted, and without control batches and those that the caller names. */
#ifndef TIERLOG_SELECTION_H
#define TIERLOG_SELECTION_H

#include "batches.h"

/* What is decided by the header alone. */
enum { TAKE, SKIP, BEYOND, ODD };

struct selection {
    int64_t start_offset, end_offset;
    const uint8_t *left_out; /* int64, native; ascending positions of batches */
    Py_ssize_t left_out_count, left_out_at;
};

static inline int64_t native64(const uint8_t *at)
{
    int64_t value;
    memcpy(&value, at, 8);
    return value;
}

static inline int is_left_out(struct selection *selection, Py_ssize_t position)
{
    while (selection->left_out_at < selection->left_out_count) {
        int64_t next = native64(selection->left_out + 8 * selection->left_out_at);
        if (next >= position)
            return next == position;
        selection->left_out_at++;
    }
    return 0;
}

static inline int choose(struct selection *selection, const uint8_t *head, Py_ssize_t position)
{
    int64_t base = int64_at(head), next;
    int overflows = __builtin_add_overflow(base, (int64_t)int32_at(head + LAST_OFFSET_DELTA_AT) + 1, &next);
    if (!overflows && next <= selection->start_offset)
        return SKIP;
    if (base >= selection->end_offset)
        return BEYOND;
    int32_t count = int32_at(head + COUNT_AT);
    if (count == 0 || head[ATTRIBUTES_AT + 1] & CONTROL_BIT || is_left_out(selection, position))
        return SKIP;
    return overflows || count < 0 ? ODD : TAKE;
}

static inline int is_compressed(const uint8_t *head) { return head[ATTRIBUTES_AT + 1] & COMPRESSION_MASK; }

static inline int is_within(Py_ssize_t start, Py_ssize_t end, Py_ssize_t size)
{
    if (start >= 0 && start <= end && end <= size)
        return 1;
    PyErr_SetString(PyExc_ValueError, "the range lies outside of the data");
    return 0;
}

static inline struct selection selected(int64_t start_offset, int64_t end_offset, const Py_buffer *left_out)
{
    return (struct selection){start_offset, end_offset, left_out->buf, left_out->len / 8, 0};
}

#endif
