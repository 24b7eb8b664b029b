/* What one partition of a leader's answer does to the follower's log and state: all checks first, then the write, then the
   bookkeeping.

   The twin is ``apply_reply.take_answer`` and whatever it calls. What is rare (a roll, another epoch, a new producer, a
   transaction, a log start that moves) is not for here: nothing was changed then. */
#include "batches.h"
#include "follow.h"

#define FETCH_OFFSET_FIELD 3

/* What was found. References are strong. */
typedef struct {
    PyObject *key, *followed, *follower;
    Part run; /* All batches of the answer as one; without them, only the log. */
    int64_t end_offset, high_watermark, log_start_offset;
    int is_new_start, is_watermark_new;
} Taken;

static void release_taken(Taken *taken)
{
    release_part(&taken->run);
    Py_CLEAR(taken->key);
    Py_CLEAR(taken->followed);
    Py_CLEAR(taken->follower);
}

/* The answer is to the fetch that is outstanding, of a log that still ends where it said. */
static int is_awaited(const Taken *taken, PyObject *fetch)
{
    WANT(is_object(taken->follower, N_outstanding, fetch));
    PyObject *offset = PyTuple_GetItem(fetch, FETCH_OFFSET_FIELD);
    int64_t fetch_offset;
    if (offset == NULL || as_int64(offset, &fetch_offset) < 0)
        return FAILED;
    return fetch_offset == taken->run.end_offset;
}

static int find_replica(Follow *follow, Taken *taken)
{
    Part *run = &taken->run;
    if ((run->partition = get(taken->followed, N_partition)) == NULL)
        return FAILED;
    WANT(is_object(run->partition, N_offline, Py_None));
    WANT_NOT(is_true(run->partition, N_follower_throttled));
    if ((taken->follower = get(run->partition, N_follower)) == NULL)
        return FAILED;
    if (taken->follower == Py_None)
        return NOT_FOR_HERE;
    if ((run->log = get(run->partition, N_log)) == NULL)
        return FAILED;
    READ(run->log, log_end_offset, &run->end_offset);
    READ(run->log, log_start_offset, &run->log_start_offset);
    int64_t backoff_ms;
    READ(taken->follower, backoff_ms, &backoff_ms);
    return backoff_ms == follow->backoff_min_ms;
}

/* One whole batch behind ``expected``, with a checksum that holds, of no transaction and no other epoch than the first one's.
   Its size, or 0. */
static Py_ssize_t plain_batch(const uint8_t *at, Py_ssize_t left, int64_t epoch, int64_t *expected)
{
    int64_t base, end;
    Py_ssize_t size = whole_size(at, left);
    if (size == 0 || !has_good_crc(at, size) || !end_of_offsets(at, &base, &end) || base < *expected
        || int32_at(at + LEADER_EPOCH_AT) != epoch || int16_at(at + ATTRIBUTES_AT) & (CONTROL_BIT | TRANSACTIONAL_BIT)
        || (int64_at(at + PRODUCER_ID_AT) >= 0 && int32_at(at + BASE_SEQUENCE_AT) < 0))
        return 0;
    *expected = end;
    return size;
}

/* A batch of the run as a part of its own, behind those before it. */
static void begin_batch(Part *batch, uint8_t *at, Py_ssize_t size)
{
    batch->batch = at;
    batch->size = size;
    batch->end_offset = int64_at(at);
    batch->count = int32_at(at + LAST_OFFSET_DELTA_AT) + 1;
    batch->max_timestamp = int64_at(at + MAX_TIMESTAMP_AT);
    batch->producer_id = int64_at(at + PRODUCER_ID_AT);
    batch->base_sequence = int32_at(at + BASE_SEQUENCE_AT);
    batch->entry = NULL;
}

static int is_same_producer(const uint8_t *batch, const uint8_t *other)
{
    return memcmp(batch + PRODUCER_ID_AT, other + PRODUCER_ID_AT, BASE_SEQUENCE_AT - PRODUCER_ID_AT) == 0;
}

/* All batches, and their producers, who are known already. */
static int check_batches(Taken *taken)
{
    Part *run = &taken->run, batch = *run;
    int64_t expected = run->end_offset;
    const uint8_t *before = run->batch;
    Py_ssize_t size;
    run->max_timestamp = INT64_MIN;
    run->leader_epoch = int32_at(run->batch + LEADER_EPOCH_AT);
    for (Py_ssize_t at = 0; at < run->size; at += size) {
        size = plain_batch(run->batch + at, run->size - at, run->leader_epoch, &expected);
        if (size == 0 || int32_at(run->batch + at + LAST_OFFSET_DELTA_AT) == INT32_MAX)
            return NOT_FOR_HERE;
        begin_batch(&batch, run->batch + at, size);
        if (batch.max_timestamp > run->max_timestamp)
            run->max_timestamp = batch.max_timestamp;
        int is_checked = at > 0 && is_same_producer(before, batch.batch);
        before = batch.batch;
        if (batch.producer_id < 0 || is_checked)
            continue;
        int found = find_producer(&batch);
        Py_XDECREF(batch.entry);
        TRY(found);
    }
    if (expected - run->end_offset > INT32_MAX)
        return NOT_FOR_HERE;
    run->count = (int32_t)(expected - run->end_offset);
    taken->end_offset = expected;
    return FINE;
}

static int check_records(Taken *taken, int64_t wall_clock_ms)
{
    Part *run = &taken->run;
    if (run->size < HEADER_BYTES)
        return NOT_FOR_HERE;
    WANT_NOT(is_true(run->log, N_is_broken));
    if ((run->segments = get(run->log, N_segments)) == NULL || (run->segment = active_of(run->segments)) == NULL
        || (run->producers = get(run->log, N_producers)) == NULL)
        return FAILED;
    TRY(check_batches(taken));
    TRY(check_segment(run, wall_clock_ms));
    return check_epoch(run);
}

/* What the follower will know: ``Follower.on_reply``, and ``on_appended``. */
static int check_state(Taken *taken, const Answered *answered)
{
    int64_t known_start, known_watermark, watermark = answered->high_watermark, start;
    READ(taken->follower, log_start_offset, &known_start);
    READ(taken->follower, high_watermark, &known_watermark);
    if (watermark > taken->end_offset)
        watermark = taken->end_offset;
    taken->is_watermark_new = watermark > known_watermark;
    taken->high_watermark = taken->is_watermark_new ? watermark : known_watermark;
    taken->is_new_start = answered->log_start_offset > known_start;
    start = taken->log_start_offset = taken->is_new_start ? answered->log_start_offset : known_start;
    if (start > taken->high_watermark)
        start = taken->high_watermark;
    return taken->high_watermark <= taken->end_offset && start <= taken->run.log_start_offset;
}

static int check_taken(Follow *follow, Taken *taken, PyObject *fetch, const Answered *answered, int64_t wall_clock_ms)
{
    TRY(find_replica(follow, taken));
    TRY(is_awaited(taken, fetch));
    taken->end_offset = taken->run.end_offset;
    taken->run.batch = answered->records;
    taken->run.size = answered->size;
    if (answered->size > 0)
        TRY(check_records(taken, wall_clock_ms));
    return check_state(taken, answered);
}

/* ``FetchSchedule.stir`` */
static int stir(const Follow *follow, PyObject *key)
{
    PyObject *stirred = get(follow->schedule, N__stirred), *waiting = get(follow->schedule, N__waiting);
    int failed = stirred == NULL || waiting == NULL || PyDict_SetItem(stirred, key, Py_None) < 0 || discard(waiting, key) < 0;
    Py_XDECREF(stirred);
    Py_XDECREF(waiting);
    return failed ? FAILED : FINE;
}

/* NOT_FOR_HERE: a short write or an error; the twin writes again at the same position, and says what it met. */
static int write_run(const Part *run)
{
    int64_t written;
    int done = write_batch(run, run->batch, run->size, &written);
    if (done == FINE && written == run->size)
        return FINE;
    if (done == FAILED && !PyErr_ExceptionMatches(PyExc_Exception))
        return FAILED;
    PyErr_Clear();
    return NOT_FOR_HERE;
}

/* The last batches of one producer in a row, from ``batch`` on, which are ``count``: it remembers no more. */
static int remember_stretch(const Follow *follow, Part *batch, Py_ssize_t count, int64_t wall_clock_ms)
{
    int done = find_producer(batch);
    if (done == NOT_FOR_HERE)
        PyErr_SetString(PyExc_AssertionError, "a producer is as it was checked");
    PyObject *entry = batch->entry;
    done = done == FINE ? FINE : FAILED;
    for (; count > 0 && done == FINE; count--) {
        if (count <= REMEMBERED_BATCHES)
            done = remember_producer(batch, follow->known_batch, batch->end_offset + batch->count, wall_clock_ms);
        uint8_t *next = batch->batch + batch->size;
        if (count > 1)
            begin_batch(batch, next, LOG_OVERHEAD_BYTES + (Py_ssize_t)int32_at(next + 8));
        batch->entry = entry;
    }
    Py_XDECREF(entry);
    batch->entry = NULL;
    return done;
}

static int remember_batches(const Follow *follow, Part *run, int64_t wall_clock_ms)
{
    Part batch = *run, first;
    Py_ssize_t size, count = 0;
    for (Py_ssize_t at = 0; at < run->size; at += size) {
        size = whole_size(run->batch + at, run->size - at);
        begin_batch(&batch, run->batch + at, size);
        TRY(note_batch(&batch, batch.end_offset + batch.count));
        batch.position += size;
        if (count++ == 0)
            first = batch;
        if (at + size < run->size && is_same_producer(run->batch + at, run->batch + at + size))
            continue;
        if (first.producer_id >= 0)
            TRY(remember_stretch(follow, &first, count, wall_clock_ms));
        count = 0;
    }
    return note_segment(&batch, batch.end_offset + batch.count);
}

/* ``writing._remember`` */
static int remember_run(const Follow *follow, Taken *taken, int64_t wall_clock_ms)
{
    Part *run = &taken->run;
    if (set_int64(run->segment, N_size_bytes, run->position + run->size) < 0)
        return FAILED;
    TRY(remember_batches(follow, run, wall_clock_ms));
    return note_end(run, taken->end_offset);
}

static int know_leader(const Taken *taken, const Answered *answered)
{
    PyObject *follower = taken->follower;
    if (set(follower, N_outstanding, Py_None) < 0
        || set_int64(follower, N__leader_high_watermark, answered->high_watermark) < 0
        || (taken->is_new_start && set_int64(follower, N_log_start_offset, taken->log_start_offset) < 0))
        return FAILED;
    return FINE;
}

static int tell(PyObject *whom, int name, PyObject *what)
{
    PyObject *told = PyObject_CallMethodObjArgs(whom, interned[name], what, NULL);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

/* Who has to do something about what was appended: ``apply_reply._append``. */
static int tell_disk(const Taken *taken)
{
    PyObject *partition = taken->run.partition, *log = taken->run.log;
    int64_t recovery_point, since_writeback, writeback_bytes, flush_messages = 0;
    READ(log, recovery_point, &recovery_point);
    READ(log, bytes_since_writeback, &since_writeback);
    READ(partition, writeback_bytes, &writeback_bytes);
    PyObject *config = get(partition, N_config), *snapshots = get(log, N_snapshots), *flusher = get(partition, N_flusher);
    int is_pending = config == NULL || snapshots == NULL || flusher == NULL || get_int64(config, N_flush_messages, &flush_messages) < 0
        ? FAILED : is_true(snapshots, N_pending);
    int is_due = is_pending < 0 ? FAILED : is_true(partition, N_flush_acks);
    if (is_due == 0)
        is_due = taken->end_offset - recovery_point >= flush_messages;
    int done = is_due < 0 ? FAILED : FINE;
    if (is_due > 0)
        done = tell(flusher, N_request, partition);
    if (is_pending > 0 && done == FINE)
        done = tell(flusher, N_request, partition);
    Py_XDECREF(config);
    Py_XDECREF(snapshots);
    Py_XDECREF(flusher);
    if (done != FINE || since_writeback < writeback_bytes)
        return done;
    PyObject *owner = get(partition, N_owner);
    done = owner == NULL ? FAILED : tell(owner, N_on_writeback_due, partition);
    Py_XDECREF(owner);
    return done;
}

static int count_copied(Taken *taken)
{
    Part *run = &taken->run;
    if ((run->traffic = get(run->partition, N_traffic)) == NULL
        || add_int64(run->partition, N__bytes_since_watermark, run->size) < 0
        || add_int64(run->traffic, N_replication_bytes_in, run->size) < 0)
        return FAILED;
    return FINE;
}

static int has_waiters(const Taken *taken)
{
    PyObject *partition = taken->run.partition;
    int is_parked = is_true(partition, N_parked);
    if (is_parked != 0)
        return is_parked;
    PyObject *producers = get(taken->run.log, N_producers);
    int is_stable = producers == NULL ? FAILED : is_object(producers, N_first_unstable_offset, Py_None);
    Py_XDECREF(producers);
    return is_stable < 0 ? FAILED : !is_stable;
}

/* ``Partition.on_watermark_learnt`` */
static int tell_watermark(const Taken *taken)
{
    PyObject *partition = taken->run.partition;
    int is_awaited = has_waiters(taken);
    if (is_awaited == 0)
        return add_int64(partition, N_changes, 1) < 0 || set_int64(partition, N__bytes_since_watermark, 0) < 0 ? FAILED : FINE;
    if (is_awaited < 0)
        return FAILED;
    PyObject *told = PyObject_CallMethodObjArgs(partition, interned[N_on_watermark_learnt], NULL);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

/* Behind the write. ``is_noted``: whether the log remembers it, so that an error undoes nothing. */
static int finish(const Follow *follow, Taken *taken, const Answered *answered, int64_t wall_clock_ms, int *is_noted)
{
    TRY(know_leader(taken, answered));
    if (answered->size > 0) {
        TRY(remember_run(follow, taken, wall_clock_ms));
        *is_noted = 1;
        TRY(count_copied(taken));
    }
    if (taken->is_watermark_new && set_int64(taken->follower, N_high_watermark, taken->high_watermark) < 0)
        return FAILED;
    if (answered->size > 0)
        TRY(tell_disk(taken));
    return taken->is_watermark_new ? tell_watermark(taken) : FINE;
}

/* Gives the error to those who know what it costs. */
static int tell_failed(const Follow *follow, const Taken *taken, int is_noted, int64_t wall_clock_ms)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (error != NULL && trace != NULL)
        PyException_SetTraceback(error, trace);
    int is_done = is_noted || taken->run.segment == NULL;
    PyObject *told = PyObject_CallFunction(follow->failed, "OOLLLO", taken->run.partition, is_done ? Py_None : taken->run.segment,
                                           (long long)taken->run.position, (long long)taken->run.end_offset, (long long)wall_clock_ms,
                                           error == NULL ? Py_None : error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    Py_XDECREF(told);
    return told == NULL ? FAILED : FINE;
}

static int take(Follow *follow, Taken *taken, PyObject *fetch, const Answered *answered, int64_t wall_clock_ms)
{
    TRY(check_taken(follow, taken, fetch, answered, wall_clock_ms));
    TRY(stir(follow, taken->key));
    if (answered->size > 0)
        TRY(write_run(&taken->run));
    int is_noted = answered->size == 0;
    if (finish(follow, taken, answered, wall_clock_ms, &is_noted) == FINE)
        return FINE;
    return tell_failed(follow, taken, is_noted, wall_clock_ms);
}

int take_answered(Follow *follow, const Answered *answered, int64_t wall_clock_ms)
{
    Taken taken = {0};
    PyObject *fetch = NULL;
    int done = FINE;
    taken.key = Py_BuildValue("(y#i)", (const char *)answered->topic_id, (Py_ssize_t)UUID_BYTES, (int)answered->index);
    if (taken.key != NULL)
        taken.followed = find_followed(follow, taken.key);
    Py_XINCREF(taken.followed);
    if (taken.followed == NULL)
        done = PyErr_Occurred() ? FAILED : FINE;
    else if ((fetch = get(taken.followed, N_fetch)) == NULL)
        done = FAILED;
    else if (fetch != Py_None)
        done = take(follow, &taken, fetch, answered, wall_clock_ms);
    Py_XDECREF(fetch);
    release_taken(&taken);
    return done;
}
