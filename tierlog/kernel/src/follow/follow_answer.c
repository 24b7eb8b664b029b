/* The leader's answer to a follower's Fetch of version 17, read in place.

   Every length is checked against the bytes that are there. An answer with anything in it that is not as in an ordinary one
   (an error, tagged fields, aborted transactions) is not for here, as a whole. */
#include "follow.h"

int begin_answer(uint8_t *frame, Py_ssize_t size, uint32_t correlation_id, int32_t *session_id, Walk *walk)
{
    Cursor *cursor = &walk->cursor;
    *cursor = (Cursor){frame, frame + size, 1};
    int32_t found, throttle_ms;
    int error;
    walk->topic_id = NULL;
    walk->partitions = 0;
    if (!read_int32(cursor, &found) || (uint32_t)found != correlation_id || !no_tags(cursor)
        || !read_int32(cursor, &throttle_ms) || !read_int16(cursor, &error) || error != 0
        || !read_int32(cursor, session_id) || *session_id == 0 || !read_compact(cursor, &walk->topics) || walk->topics < 0)
        return NOT_FOR_HERE;
    return FINE;
}

/* On to a topic with partitions, or to the end of the answer. */
static int next_topic(Walk *walk)
{
    Cursor *cursor = &walk->cursor;
    while (walk->partitions == 0) {
        if (walk->topic_id != NULL && !no_tags(cursor))
            return NOT_FOR_HERE;
        walk->topic_id = NULL;
        if (walk->topics == 0)
            return no_tags(cursor) && cursor->at == cursor->end;
        if (!has(cursor, UUID_BYTES))
            return NOT_FOR_HERE;
        walk->topic_id = cursor->at;
        walk->topics--;
        cursor->at += UUID_BYTES;
        if (!read_compact(cursor, &walk->partitions) || walk->partitions < 0)
            return NOT_FOR_HERE;
    }
    return FINE;
}

int read_answered(Walk *walk, Answered *answered)
{
    Cursor *cursor = &walk->cursor;
    int64_t last_stable_offset;
    int32_t aborted, preferred_replica, size;
    int error;
    if (!next_topic(walk))
        return NOT_FOR_HERE;
    answered->topic_id = walk->topic_id;
    if (walk->topic_id == NULL)
        return FINE;
    walk->partitions--;
    if (!read_int32(cursor, &answered->index) || !read_int16(cursor, &error) || error != 0
        || !read_int64(cursor, &answered->high_watermark) || !read_int64(cursor, &last_stable_offset)
        || !read_int64(cursor, &answered->log_start_offset) || !read_compact(cursor, &aborted) || aborted > 0
        || !read_int32(cursor, &preferred_replica) || !read_compact(cursor, &size) || (size > 0 && !has(cursor, size)))
        return NOT_FOR_HERE;
    answered->records = cursor->at;
    answered->size = size > 0 ? size : 0;
    cursor->at += answered->size;
    return no_tags(cursor);
}
