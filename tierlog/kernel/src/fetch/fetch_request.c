/* A Fetch request from its frame: of a follower, which names topics by id, or of a consumer. Whatever else a Fetch may carry
   (partitions to forget, a rack, tagged fields of partitions) is not for here. */
#include "fetch.h"

#define FIRST_VERSION 11
#define LAST_VERSION 18
/* Since then the replica and its broker epoch are the tagged field 1. */
#define REPLICA_STATE_SINCE 15
#define REPLICA_STATE_TAG 1
#define REPLICA_STATE_BYTES 13

static int read_named(Cursor *cursor, FetchRequest *request)
{
    if (request->named_count == NAMED_MAX)
        return NOT_FOR_HERE;
    Named *named = &request->named[request->named_count++];
    named->topic = request->topics_count;
    named->last_fetched_epoch = -1;
    if (!read_int32(cursor, &named->index) || !read_int32(cursor, &named->leader_epoch) || !read_int64(cursor, &named->fetch_offset)
        || (cursor->is_flexible && !read_int32(cursor, &named->last_fetched_epoch)) || !read_int64(cursor, &named->log_start_offset)
        || !read_int32(cursor, &named->max_bytes))
        return NOT_FOR_HERE;
    return no_tags(cursor);
}

static int read_topic(Cursor *cursor, FetchRequest *request)
{
    int32_t partitions;
    if (request->topics_count == NAMED_MAX)
        return NOT_FOR_HERE;
    FetchedTopic *topic = &request->topics[request->topics_count];
    if (request->header.version >= FETCH_BY_ID_SINCE) {
        if (!has(cursor, UUID_BYTES))
            return NOT_FOR_HERE;
        topic->name = cursor->at;
        topic->name_bytes = UUID_BYTES;
        cursor->at += UUID_BYTES;
    } else if (!read_string(cursor, &topic->name, &topic->name_bytes) || topic->name_bytes > NAME_BYTES_MAX
               || !is_ascii(topic->name, topic->name_bytes)) {
        return NOT_FOR_HERE;
    }
    if (!read_count(cursor, &partitions) || partitions < 0 || partitions > NAMED_MAX)
        return NOT_FOR_HERE;
    topic->partitions = partitions;
    for (int32_t i = 0; i < partitions; i++)
        if (!read_named(cursor, request))
            return NOT_FOR_HERE;
    request->topics_count++;
    return no_tags(cursor);
}

static int read_replica_state(Cursor *cursor, FetchRequest *request)
{
    if (has(cursor, 1) && *cursor->at == 0)
        return FINE; /* a consumer's */
    if (!has(cursor, 3 + REPLICA_STATE_BYTES) || cursor->at[0] != 1 || cursor->at[1] != REPLICA_STATE_TAG
        || cursor->at[2] != REPLICA_STATE_BYTES)
        return NOT_FOR_HERE;
    cursor->at += 3;
    if (!read_int32(cursor, &request->replica_id) || !read_int64(cursor, &request->replica_epoch) || request->replica_id < 0)
        return NOT_FOR_HERE;
    return no_tags(cursor);
}

static int read_limits(Cursor *cursor, FetchRequest *request)
{
    if (request->header.version < REPLICA_STATE_SINCE && (!read_int32(cursor, &request->replica_id) || request->replica_id != NO_REPLICA))
        return NOT_FOR_HERE;
    if (!read_int32(cursor, &request->max_wait_ms) || !read_int32(cursor, &request->min_bytes) || !read_int32(cursor, &request->max_bytes)
        || !has(cursor, 1))
        return NOT_FOR_HERE;
    request->isolation = *cursor->at++;
    return read_int32(cursor, &request->session_id) && read_int32(cursor, &request->session_epoch);
}

int read_fetch(uint8_t *frame, Py_ssize_t size, FetchRequest *request)
{
    Cursor cursor = {frame, frame + size, 0};
    const Header *header = &request->header;
    int32_t topics, forgotten, rack_bytes;
    const uint8_t *rack;
    request->topics_count = request->named_count = 0;
    request->replica_id = NO_REPLICA;
    if (!read_header(&cursor, &request->header) || header->key != FETCH_KEY || header->version < FIRST_VERSION
        || header->version > LAST_VERSION)
        return NOT_FOR_HERE;
    cursor.is_flexible = header->version >= FLEXIBLE_FETCH_SINCE;
    if (!no_tags(&cursor) || !read_limits(&cursor, request) || !read_count(&cursor, &topics) || topics < 0 || topics > NAMED_MAX)
        return NOT_FOR_HERE;
    for (int32_t i = 0; i < topics; i++)
        if (!read_topic(&cursor, request))
            return NOT_FOR_HERE;
    if (!read_count(&cursor, &forgotten) || forgotten != 0 || !read_string(&cursor, &rack, &rack_bytes) || rack_bytes != 0)
        return NOT_FOR_HERE;
    return header->version < REPLICA_STATE_SINCE ? no_tags(&cursor) : read_replica_state(&cursor, request);
}
