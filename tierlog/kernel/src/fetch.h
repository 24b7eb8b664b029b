/* One Fetch request: what its frame says (fetch_request.c), what its partitions have (fetch_look.c), the answer
   (fetch_answer.c). */
#ifndef TIERLOG_FETCH_H
#define TIERLOG_FETCH_H

#include "attributes.h"
#include "cursor.h"

#define FETCH_KEY 1
/* Beyond that only the Python path looks. */
#define NAMED_MAX 64
/* Those of a parked fetch, and those that changed meanwhile. */
#define READS_MAX (2 * NAMED_MAX)

/* A partition as the request names it. */
typedef struct {
    int topic;
    int32_t index, leader_epoch, last_fetched_epoch, max_bytes;
    int64_t fetch_offset, log_start_offset;
} Named;

typedef struct {
    Header header;
    int32_t replica_id, max_wait_ms, min_bytes, max_bytes, session_id, session_epoch;
    int64_t replica_epoch;
    int topics_count, named_count;
    const uint8_t *topic_ids[NAMED_MAX];
    Named named[NAMED_MAX];
} FetchRequest;

/* One partition that a fetch looks at; the objects are strong references, NULL until found. */
typedef struct {
    PyObject *asked, *key, *partition, *leader, *log, *progress, *records;
    uint8_t topic_id[UUID_BYTES];
    int64_t index;
    const Named *named; /* NULL: it is as the session remembers */
    int is_new; /* else as a parked fetch has found it */
    int64_t fetch_offset, max_bytes, leader_epoch, last_fetched_epoch, follower_start_offset;
    int64_t changes, high_watermark, last_stable_offset, log_start_offset;
    Py_ssize_t size_bytes;
} Read;

/* What one fetch of a follower looks at and has found. The session, its watch and ``by_id`` are held by whoever looks. */
typedef struct {
    PyObject *by_id, *session, *watch;
    /* Strong: the follower's id, and what the session has. */
    PyObject *broker, *partitions, *presence, *stirred;
    int64_t broker_epoch, now_ms, max_bytes, min_bytes, taken_bytes, gathered_bytes, unsent_bytes;
    int is_due, tells_watermark, has_called;
    /* In the order of the answer, and those that are new in the order in which they are looked at. */
    int count, new_count;
    Read reads[READS_MAX];
    Read *new_reads[READS_MAX];
} Look;

/* fetch_request.c: FINE or NOT_FOR_HERE. */
int read_fetch(uint8_t *frame, Py_ssize_t size, FetchRequest *request);

/* fetch_look.c: FINE, NOT_FOR_HERE, or FAILED with an exception. */
int gather(Look *look, const FetchRequest *request);
int gather_parked(Look *look, PyObject *reads);
int check_reads(Look *look);
int serve_reads(Look *look);
PyObject *reads_of(const Look *look);
void release_look(Look *look);

/* fetches.c: the list of the reply's buffers; True where the reply comes later; None: not for here, and nothing was changed. */
PyObject *serve_fetch(PyObject *fetches, PyObject *connection, uint8_t *frame, Py_ssize_t size, double arrival_s);
int is_fetches(PyObject *object);

/* fetch_answer.c */
int settle_reads(const Look *look, PyObject *parts, int *is_named);
PyObject *write_answer(const Look *look, const int *is_named, uint32_t correlation_id, int32_t session_id);

#endif
