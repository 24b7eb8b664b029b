/* A run: requests of one read that append a batch each to the same partition, one behind the other.

   They are checked as if those before them were appended, written in one call, and then remembered and answered one by one.
   Only where nobody waits for the partition: else those who are told of one append could append themselves, in between. */
#include "produce.h"

/* Copied for the write. */
#define RUN_BYTES_MAX 65536

static int is_for_the_same(const Single *first, const Single *single)
{
    return single->request.version == first->request.version && single->request.acks == first->request.acks
        && single->part.index == first->part.index && single->topic.name_bytes == first->topic.name_bytes
        && memcmp(single->topic.name, first->topic.name, (size_t)first->topic.name_bytes) == 0;
}

/* The requests that may be a run, from the first one on; how many. */
static int read_run(Produce *self, const Received *opened)
{
    Received rest = *opened;
    Py_ssize_t reply_bytes = self->reply_bytes, batch_bytes = 0;
    int count = 0;
    for (; count < RUN_MAX; count++) {
        Single *single = &self->run[count];
        int64_t size = next_size(&rest), body = rest.start + SIZE_PREFIX_BYTES;
        memset(single, 0, sizeof *single);
        single->request.topics = &single->topic;
        single->request.parts = &single->part;
        single->request.parts_max = 1;
        if (size < 0 || !read_request((uint8_t *)rest.bytes.buf + body, size, &single->request) || !is_for_the_same(self->run, single))
            break;
        reply_bytes += reply_bytes_max(&single->request);
        batch_bytes += single->part.size;
        if (reply_bytes > REPLIES_BYTES || batch_bytes > RUN_BYTES_MAX)
            break;
        single->end = rest.start = body + size;
    }
    return count;
}

/* Whether the first request may be served, and nobody waits for what its partition gets. */
static int check_first(Produce *self, Single *first, int64_t now_ms)
{
    Part *part = &first->part;
    int found = find_part(self, &first->request, part);
    if (found == FINE)
        found = check_part(part, first->request.acks, now_ms);
    return found == FINE ? is_quiet(part, part->end_offset) : found;
}

/* How many requests are a run; FAILED with an exception. */
static int check_run(Produce *self, int count, int64_t now_ms)
{
    int found = check_first(self, self->run, now_ms);
    if (found != FINE)
        return found;
    int checked = 1;
    while (checked < count && found == FINE) {
        Single *single = &self->run[checked];
        found = follow_part(&single->part, &self->run[checked - 1].part, now_ms);
        checked += found == FINE;
    }
    return found == FAILED ? FAILED : checked;
}

/* The batches from there on are as they came. */
static void unstamp(Single *run, int from, int count)
{
    for (int i = from; i < count; i++)
        stamp_batch(run[i].part.batch, 0, run[i].came_with);
}

/* NOT_FOR_HERE: the write failed and left nothing, the batches are as they came. */
static int write_run(Produce *self, int count)
{
    Single *run = self->run;
    const Part *last = &run[count - 1].part;
    Py_ssize_t size = last->position + last->size - run->part.position;
    uint8_t *together = PyMem_Malloc((size_t)size), *to = together;
    if (together == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (int i = 0; i < count; i++) {
        Part *part = &run[i].part;
        run[i].came_with = int32_at(part->batch + LEADER_EPOCH_AT);
        stamp_batch(part->batch, part->end_offset, part->leader_epoch);
        memcpy(to, part->batch, (size_t)part->size);
        to += part->size;
    }
    int64_t written = 0;
    int done = write_batch(&run->part, together, size, &written);
    PyMem_Free(together);
    if (done == FINE && written == size)
        return FINE;
    unstamp(run, 0, count);
    if (done == FAILED && !PyErr_ExceptionMatches(PyExc_Exception))
        return FAILED;
    PyErr_Clear();
    return NOT_FOR_HERE;
}

/* Behind the write: how many are served; FAILED with an exception. Of one whose bookkeeping fails, and of those behind it,
   nothing is left in the log: the handler refuses the first of them. */
static int finish_run(Produce *self, PyObject *connection, int count, int64_t now_ms, double arrival_s)
{
    for (int i = 0; i < count; i++) {
        Single *single = &self->run[i];
        PyObject *refusal = finish_part(self, &single->part, now_ms);
        if (refusal == NULL)
            return FAILED;
        if (refusal != Py_None) {
            PyObject *results = Py_BuildValue("[N]", refusal);
            int failed = results == NULL || set(connection, N_appended, results) < 0;
            Py_XDECREF(results);
            self->is_over = 1;
            unstamp(self->run, i + 1, count);
            return failed ? FAILED : i;
        }
        Py_DECREF(refusal);
        if (answer(self, &single->request, arrival_s) != FINE)
            return FAILED;
    }
    return count;
}

static int append_run(Produce *self, PyObject *connection, int count, double arrival_s)
{
    int64_t now_ms;
    if (ask_now_ms(self, &now_ms) != FINE)
        return FAILED;
    count = check_run(self, count, now_ms);
    if (count < 2)
        return count < 0 ? FAILED : 0;
    int step = take_turn(self, &self->run->request, &self->run->part, connection);
    if (step == FINE)
        step = is_still_so(&self->run->part);
    if (step == FINE)
        step = write_run(self, count);
    return step == FINE ? finish_run(self, connection, count, now_ms, arrival_s) : step;
}

int serve_run(Produce *self, PyObject *connection, const Received *opened, double arrival_s)
{
    Received second = *opened;
    int64_t size = next_size(opened);
    second.start += SIZE_PREFIX_BYTES + (size < 0 ? 0 : size);
    if (size < 0 || next_size(&second) < 0)
        return 0;
    int count = read_run(self, opened);
    int served = count < 2 ? 0 : append_run(self, connection, count, arrival_s);
    for (int i = 0; i < count; i++)
        release_part(&self->run[i].part);
    return served == FAILED ? -1 : served;
}
