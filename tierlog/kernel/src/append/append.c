/* An append of one batch as leader: all checks before the write, and all bookkeeping behind it, of which followers share much.

   The twin is ``Partition.append`` and whatever it calls; the names here are those of its attributes. What a check refuses,
   and whatever is rare (a roll, another epoch, a new producer, a repeated batch, an odd timestamp), is not for here: nothing
   was changed then, and the twin says what is the matter. */
#include "append.h"
#include "lent.h"

#define MIN_RECORD_BYTES 7
#define OFFSET_ENTRY_BYTES 8
#define TIME_ENTRY_BYTES 12
#define RULES 6

void release_part(Part *part)
{
    PyObject **const held[] = {&part->partition, &part->traffic, &part->log, &part->leader, &part->segments,
                               &part->segment, &part->producers, &part->entry};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        Py_CLEAR(*held[i]);
}

static int64_t saturated_sum(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? (b > 0 ? INT64_MAX : INT64_MIN) : sum;
}

/* The header by the topic's rules: ``AppendRules.plain``, which is None where records must be opened or stamped anew. */
static int check_header(Part *part, int64_t now_ms)
{
    int64_t rules[RULES]; /* largest message, largest segment, age and future of timestamps, what a codec may unpack: ratio, least */
    PyObject *own = get(part->log, N_rules);
    PyObject *plain = own == NULL ? NULL : get(own, N_plain);
    Py_XDECREF(own);
    if (plain == NULL)
        return FAILED;
    if (plain == Py_None) {
        Py_DECREF(plain);
        return NOT_FOR_HERE;
    }
    for (int i = 0; i < RULES; i++) {
        PyObject *rule = PyTuple_GetItem(plain, i);
        if (rule == NULL || as_int64(rule, &rules[i]) < 0) {
            Py_DECREF(plain);
            return FAILED;
        }
    }
    Py_DECREF(plain);
    const uint8_t *batch = part->batch;
    int64_t base_timestamp = int64_at(batch + BASE_TIMESTAMP_AT), body = part->size - HEADER_BYTES;
    part->max_timestamp = int64_at(batch + MAX_TIMESTAMP_AT);
    part->producer_id = int64_at(batch + PRODUCER_ID_AT);
    part->base_sequence = int32_at(batch + BASE_SEQUENCE_AT);
    part->count = int32_at(batch + COUNT_AT);
    int64_t room = body;
    if (int16_at(batch + ATTRIBUTES_AT) != 0) {
        room = body > 0 ? body * rules[4] : 0;
        if (body > 0 && room < rules[5])
            room = rules[5];
    }
    int is_plain = int64_at(batch) == 0 && part->size <= rules[0] && part->size <= rules[1]
        && part->count > 0 && part->count - 1 == int32_at(batch + LAST_OFFSET_DELTA_AT)
        && (part->producer_id < 0 || part->base_sequence >= 0)
        && (int64_t)part->count * MIN_RECORD_BYTES <= room
        && saturated_sum(now_ms, -rules[2]) <= base_timestamp && base_timestamp <= part->max_timestamp
        && part->max_timestamp <= saturated_sum(now_ms, rules[3]);
    if (!is_plain)
        return NOT_FOR_HERE;
    uint32_t crc = crc32c(0, batch + ATTRIBUTES_AT, (size_t)(part->size - ATTRIBUTES_AT));
    return crc == unsigned32(batch + CRC_AT) ? FINE : NOT_FOR_HERE;
}

/* A producer that is known, in the epoch of the batch. */
int find_producer(Part *part)
{
    PyObject *entries = get(part->producers, N__entries), *id = PyLong_FromLongLong(part->producer_id);
    if (entries != NULL && id != NULL) {
        part->entry = PyDict_GetItemWithError(entries, id);
        Py_XINCREF(part->entry);
    }
    Py_XDECREF(entries);
    Py_XDECREF(id);
    if (part->entry == NULL)
        return PyErr_Occurred() ? FAILED : NOT_FOR_HERE;
    int64_t generation, own, epoch;
    READ(part->entry, generation, &own);
    READ(part->producers, _generation, &generation);
    READ(part->entry, producer_epoch, &epoch);
    return generation == own && epoch == int16_at(part->batch + PRODUCER_EPOCH_AT);
}

/* Sequence and epoch of a producer that is known: the next batch of the same epoch. */
static int check_producer(Part *part)
{
    TRY(find_producer(part));
    int64_t open_transaction;
    READ(part->entry, txn_first_offset, &open_transaction);
    if (open_transaction >= 0)
        return NOT_FOR_HERE;
    PyObject *batches = get(part->entry, N_batches);
    if (batches == NULL)
        return FAILED;
    Py_ssize_t known = PyList_Size(batches);
    PyObject *last = known > 0 ? PyList_GetItem(batches, known - 1) : NULL;
    PyObject *sequence = last == NULL ? NULL : PyTuple_GetItem(last, 3);
    int64_t last_sequence = -1;
    int failed = known < 0 || (sequence != NULL && as_int64(sequence, &last_sequence) < 0);
    Py_DECREF(batches);
    if (failed)
        return FAILED;
    return sequence != NULL && ((last_sequence + 1) & INT32_MAX) == part->base_sequence ? FINE : NOT_FOR_HERE;
}

static int index_has_room(PyObject *segment, int name, int64_t entry_bytes, int64_t reserved)
{
    PyObject *index = get(segment, name);
    if (index == NULL)
        return FAILED;
    int64_t count = 0, bytes_max = 0;
    int failed = get_int64(index, N_count, &count) < 0 || get_int64(index, N_max_bytes, &bytes_max) < 0;
    Py_DECREF(index);
    return failed ? FAILED : count < bytes_max / entry_bytes - reserved;
}

static int fits_segment(const Part *part, int64_t now_ms)
{
    int64_t waited_ms = part->first_timestamp >= 0 && part->max_timestamp >= 0 ? part->max_timestamp - part->first_timestamp
                                                                               : now_ms - part->created_ms;
    return part->position > 0 && part->position <= part->segment_bytes - part->size
        && part->end_offset + part->count - 1 - part->segment_base_offset <= MAX_RELATIVE_OFFSET && waited_ms <= part->roll_ms;
}

/* The active segment takes the batch, or the run of batches, without a roll, as ``Segment.is_roll_due`` says. */
int check_segment(Part *part, int64_t now_ms)
{
    PyObject *segment = part->segment, *config = get(part->log, N_config);
    int64_t segment_bytes = 0, segment_ms = 0;
    int failed = config == NULL || get_int64(config, N_segment_bytes, &segment_bytes) < 0
        || get_int64(config, N_segment_ms, &segment_ms) < 0;
    Py_XDECREF(config);
    if (failed)
        return FAILED;
    int64_t jitter_ms;
    READ(segment, size_bytes, &part->position);
    READ(segment, base_offset, &part->segment_base_offset);
    READ(segment, first_timestamp, &part->first_timestamp);
    READ(segment, created_ms, &part->created_ms);
    READ(segment, roll_jitter_ms, &jitter_ms);
    part->segment_bytes = segment_bytes;
    part->roll_ms = segment_ms - jitter_ms;
    READ(segment, index_interval_bytes, &part->index_interval_bytes);
    READ(segment, bytes_since_index_entry, &part->since_index_entry);
    READ(segment, max_timestamp, &part->segment_max_timestamp);
    READ(segment, max_timestamp_offset, &part->segment_max_timestamp_offset);
    if (!fits_segment(part, now_ms))
        return NOT_FOR_HERE;
    WANT(index_has_room(segment, N_offset_index, OFFSET_ENTRY_BYTES, 0));
    return index_has_room(segment, N_time_index, TIME_ENTRY_BYTES, 1);
}

/* The leader's epoch is the log's latest, and began at or before the log's end: nothing is to be noted of it. */
int check_epoch(const Part *part)
{
    PyObject *lineage = get(part->log, N_epochs);
    PyObject *epochs = lineage == NULL ? NULL : get(lineage, N__epochs);
    PyObject *starts = epochs == NULL ? NULL : get(lineage, N__starts);
    int found = FAILED;
    if (starts != NULL) {
        Py_ssize_t count = PyList_Size(epochs);
        if (count == 0) {
            found = NOT_FOR_HERE;
        } else if (count > 0) {
            PyObject *last = PyList_GetItem(epochs, count - 1), *start = PyList_GetItem(starts, count - 1);
            int64_t epoch, offset;
            if (last != NULL && start != NULL && as_int64(last, &epoch) == 0 && as_int64(start, &offset) == 0)
                found = epoch == part->leader_epoch && offset <= part->end_offset;
        }
    }
    Py_XDECREF(starts);
    Py_XDECREF(epochs);
    Py_XDECREF(lineage);
    return found;
}

static int check_partition(Part *part, int acks)
{
    PyObject *log_dir = get(part->partition, N_log_dir);
    if (log_dir == NULL)
        return FAILED;
    int is_full = is_true(log_dir, N_reserve_reached);
    Py_DECREF(log_dir);
    WANT_NOT(is_full);
    WANT(is_object(part->partition, N_offline, Py_None));
    if ((part->leader = get(part->partition, N_leader)) == NULL)
        return FAILED;
    if (part->leader == Py_None)
        return NOT_FOR_HERE;
    if ((part->is_alone = is_true(part->leader, N_alone)) < 0)
        return FAILED;
    if (acks < 0 && !part->is_alone)
        WANT(is_true(part->leader, N_accepts_all_acks));
    READ(part->leader, leader_epoch, &part->leader_epoch);
    part->traffic = get(part->partition, N_traffic);
    return part->traffic == NULL ? FAILED : FINE;
}

/* The last of the list: ``Segments.active``. */
PyObject *active_of(PyObject *segments)
{
    PyObject *list = get(segments, N__list);
    Py_ssize_t count = list == NULL ? -1 : PyList_Size(list);
    PyObject *active = count > 0 ? PyList_GetItem(list, count - 1) : NULL;
    Py_XINCREF(active);
    Py_XDECREF(list);
    if (count == 0)
        PyErr_SetString(PyExc_AssertionError, "a log has an active segment");
    return active;
}

int check_part(Part *part, int acks, int64_t now_ms)
{
    TRY(check_partition(part, acks));
    if ((part->log = get(part->partition, N_log)) == NULL)
        return FAILED;
    TRY(check_header(part, now_ms));
    WANT_NOT(is_true(part->log, N_is_broken));
    READ(part->log, log_end_offset, &part->end_offset);
    READ(part->log, log_start_offset, &part->log_start_offset);
    if (part->end_offset >= INT64_MAX - part->count)
        return NOT_FOR_HERE;
    if ((part->segments = get(part->log, N_segments)) == NULL || (part->segment = active_of(part->segments)) == NULL
        || (part->producers = get(part->log, N_producers)) == NULL)
        return FAILED;
    TRY(check_segment(part, now_ms));
    TRY(check_epoch(part));
    return part->producer_id < 0 ? FINE : check_producer(part);
}

/* What the batch before leaves behind, once it is appended. */
static void go_behind(Part *part, const Part *before)
{
    Part own = *part;
    *part = *before;
    part->batch = own.batch;
    part->size = own.size;
    PyObject *const held[] = {part->partition, part->traffic, part->log, part->leader, part->segments, part->segment, part->producers, part->entry};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        Py_XINCREF(held[i]);
    part->end_offset = before->end_offset + before->count;
    part->position = before->position + before->size;
    part->since_index_entry = before->size + (before->since_index_entry > before->index_interval_bytes ? 0 : before->since_index_entry);
    if (before->max_timestamp > before->segment_max_timestamp) {
        part->segment_max_timestamp = before->max_timestamp;
        part->segment_max_timestamp_offset = part->end_offset - 1;
    }
}

int follow_part(Part *part, const Part *before, int64_t now_ms)
{
    go_behind(part, before);
    TRY(check_header(part, now_ms));
    int is_next = part->producer_id == before->producer_id
        && (part->producer_id < 0
            || (int16_at(part->batch + PRODUCER_EPOCH_AT) == int16_at(before->batch + PRODUCER_EPOCH_AT)
                && part->base_sequence == (((int64_t)before->base_sequence + before->count) & INT32_MAX)));
    if (!is_next || part->end_offset >= INT64_MAX - part->count || !fits_segment(part, now_ms))
        return NOT_FOR_HERE;
    /* There is room for one index entry. */
    return part->since_index_entry <= part->index_interval_bytes;
}

/* Whether a partition is still as it was checked: telling others of an append may have changed it. */
int is_still_so(const Part *part)
{
    int64_t end_offset;
    WANT(is_object(part->partition, N_offline, Py_None));
    WANT(is_object(part->partition, N_leader, part->leader));
    PyObject *active = active_of(part->segments);
    Py_XDECREF(active);
    WANT(active == NULL ? FAILED : active == part->segment);
    READ(part->log, log_end_offset, &end_offset);
    return end_offset == part->end_offset;
}

void stamp_batch(uint8_t *batch, int64_t base_offset, int64_t leader_epoch)
{
    for (int i = 0; i < 8; i++)
        batch[i] = (uint8_t)((uint64_t)base_offset >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        batch[LEADER_EPOCH_AT + i] = (uint8_t)((uint32_t)leader_epoch >> (24 - 8 * i));
}

/* FINE: written as far as ``written`` says. NOT_FOR_HERE: the file has to be opened first. */
int write_batch(const Part *part, const uint8_t *bytes, Py_ssize_t size, int64_t *written)
{
    PyObject *filesystem = get(part->segment, N_filesystem), *descriptor = get(part->segment, N__descriptor);
    PyObject *fd = descriptor == NULL || descriptor == Py_None ? NULL : get(descriptor, N_fd);
    PyObject *pwrite = filesystem == NULL || fd == NULL ? NULL : get(filesystem, N_pwrite);
    PyObject *position = pwrite == NULL ? NULL : PyLong_FromLongLong(part->position);
    PyObject *answer = position == NULL ? NULL : call_with_bytes(pwrite, fd, bytes, size, position);
    int is_closed = filesystem != NULL && descriptor == Py_None;
    int done = answer != NULL && as_int64(answer, written) == 0 ? FINE : is_closed ? NOT_FOR_HERE : FAILED;
    Py_XDECREF(answer);
    Py_XDECREF(position);
    Py_XDECREF(pwrite);
    Py_XDECREF(fd);
    Py_XDECREF(descriptor);
    Py_XDECREF(filesystem);
    return done;
}

/* Stamps and writes. NOT_FOR_HERE: the write failed and left nothing, the batch is as it came. */
int write_part(Part *part)
{
    int64_t came_with = int32_at(part->batch + LEADER_EPOCH_AT);
    stamp_batch(part->batch, part->end_offset, part->leader_epoch);
    int64_t written;
    int done = write_batch(part, part->batch, part->size, &written);
    if (done == FINE && written == part->size)
        return FINE;
    /* A short write or an error: the twin writes again from the same position, and says what it met. */
    stamp_batch(part->batch, 0, came_with);
    if (done == FAILED && !PyErr_ExceptionMatches(PyExc_Exception))
        return FAILED;
    PyErr_Clear();
    return NOT_FOR_HERE;
}

static int has_none(PyObject *from, int name)
{
    int found = is_true(from, name);
    return found < 0 ? FAILED : !found;
}

/* Whether nobody waits for the append and nothing is due, so that counting is all there is to do. */
int is_quiet(const Part *part, int64_t end_offset)
{
    PyObject *partition = part->partition, *log = part->log;
    int64_t recovery_point, since_writeback, writeback_bytes, flush_messages = 0;
    if (!part->is_alone)
        return 0;
    WANT(has_none(partition, N_flush_acks));
    WANT(has_none(partition, N_parked));
    WANT(has_none(partition, N_parked_replicas));
    PyObject *waiters = get(partition, N_acknowledgements);
    int has_waiters = waiters == NULL ? FAILED : is_true(waiters, N__queue);
    Py_XDECREF(waiters);
    WANT_NOT(has_waiters);
    WANT(is_object(part->producers, N_first_unstable_offset, Py_None));
    READ(log, recovery_point, &recovery_point);
    READ(log, bytes_since_writeback, &since_writeback);
    READ(partition, writeback_bytes, &writeback_bytes);
    PyObject *config = get(partition, N_config), *snapshots = get(log, N_snapshots);
    int is_pending = config == NULL || snapshots == NULL || get_int64(config, N_flush_messages, &flush_messages) < 0
        ? FAILED : is_true(snapshots, N_pending);
    Py_XDECREF(config);
    Py_XDECREF(snapshots);
    WANT_NOT(is_pending);
    return end_offset - recovery_point < flush_messages && since_writeback < writeback_bytes;
}

/* Counts what was appended and tells who waits for it, as ``Partition.note_appended`` does; ``is_told`` says whether that
   was called. FAILED: a bug. */
int count_part(Part *part, int *is_told)
{
    int64_t end_offset = part->end_offset + part->count;
    PyObject *partition = part->partition;
    int is_simple = is_quiet(part, end_offset);
    if (is_simple < 0)
        return FAILED;
    if ((*is_told = !is_simple))
        return FINE;
    if (add_int64(part->traffic, N_messages_in, part->count) < 0 || add_int64(part->traffic, N_bytes_in, part->size) < 0
        || set_int64(part->leader, N_durable_end_offset, end_offset) < 0
        || set_int64(part->leader, N_high_watermark, end_offset) < 0 || add_int64(partition, N_changes, 1) < 0)
        return FAILED;
    return set_int64(partition, N__bytes_since_watermark, 0) < 0 ? FAILED : FINE;
}
