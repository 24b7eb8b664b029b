/* One Fetch request: what its frame says (fetch_request.c), what its partitions have (fetch_look.c), the answer
   (fetch_answer.c). */
#ifndef TIERLOG_FETCH_H
#define TIERLOG_FETCH_H

#include "attributes.h"
#include "cursor.h"

#define FETCH_KEY 1
/* A longer frame, whose end says nothing, would be kept while the fetch waits. */
#define FETCH_BYTES_MAX 4096
#define FLEXIBLE_FETCH_SINCE 12
/* Topics are named by id. */
#define FETCH_BY_ID_SINCE 13
#define NO_REPLICA (-1)
/* Longer than a topic may be named. */
#define NAME_BYTES_MAX 255
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

/* ``name``: its name or id as it lies in the frame. */
typedef struct {
    const uint8_t *name;
    int32_t name_bytes;
    int partitions;
} FetchedTopic;

typedef struct {
    Header header;
    int32_t replica_id; /* NO_REPLICA: a consumer's */
    int32_t max_wait_ms, min_bytes, max_bytes, session_id, session_epoch;
    int64_t replica_epoch;
    int topics_count, named_count;
    int isolation;
    FetchedTopic topics[NAMED_MAX];
    Named named[NAMED_MAX];
} FetchRequest;

/* One partition that a fetch looks at; the objects are strong references, NULL until found. */
typedef struct {
    PyObject *asked, *key, *partition, *leader, *log, *progress, *records;
    uint8_t topic_id[UUID_BYTES];
    int64_t index;
    const Named *named; /* NULL: it is as the session remembers */
    int is_new; /* else as a parked fetch has found it */
    int is_rechecked; /* it was quiet, and has changed since */
    int64_t place;
    int64_t fetch_offset, max_bytes, leader_epoch, last_fetched_epoch, follower_start_offset;
    int64_t changes, high_watermark, last_stable_offset, log_start_offset;
    Py_ssize_t size_bytes;
} Read;

/* What one fetch of a follower looks at and has found. The session, its watch and ``by_id`` are held by whoever looks. */
typedef struct {
    PyObject *by_id, *session, *watch, *slice_type;
    /* Strong: the follower's id, and what the session has. */
    PyObject *broker, *partitions, *presence, *stirred;
    int64_t broker_epoch, now_ms, max_bytes, min_bytes, taken_bytes, gathered_bytes, unsent_bytes;
    int is_due, tells_watermark, has_called;
    /* In the order of the answer, and those that are new in the order in which they are looked at. */
    int count, new_count;
    Read reads[READS_MAX];
    Read *new_reads[READS_MAX];
} Look;

/* fetch_request.c: FINE or NOT_FOR_HERE. A follower's names topics by id. */
int read_fetch(uint8_t *frame, Py_ssize_t size, FetchRequest *request);

/* fetch_look.c: FINE, NOT_FOR_HERE, or FAILED with an exception. */
int gather(Look *look, const FetchRequest *request);
Read *added(Look *look, PyObject *asked, PyObject *key);
Read *read_of(Look *look, PyObject *asked);
void look_at(Look *look, Read *read);
PyObject *asked_key(PyObject *asked);
int read_asked(Read *read);
int gather_parked(Look *look, PyObject *reads);
int check_lineage(const Read *read);
int check_reads(Look *look);
int last_stable_offset(Read *read);
int serve_reads(Look *look);
PyObject *reads_of(const Look *look);
void release_look(Look *look);

/* fetch_local.c */
int read_local(Look *look, Read *read, int64_t end_offset);

/* fetches.c: the list of the reply's buffers; True where the reply comes later; None: not for here, and nothing was changed. */
PyObject *serve_fetch(PyObject *fetches, PyObject *connection, uint8_t *frame, Py_ssize_t size, double arrival_s);
int is_fetches(PyObject *object);

/* fetch_bytes.c: a reply. Its text is written to a place that is large enough; ``records`` are borrowed. */
typedef struct {
    uint8_t *start, *at;
    int is_flexible, cuts;
    int is_committed_only; /* then there is a list of aborted transactions, an empty one */
    /* Behind these places these records follow. */
    uint8_t *places[READS_MAX];
    PyObject *records[READS_MAX];
    Py_ssize_t records_bytes;
} Writer;

/* Of the text, whatever the names of its topics take. */
#define FIXED_BYTES 40
#define TOPIC_BYTES 24
#define PARTITION_BYTES 56
void begin_reply(Writer *writer, uint8_t *text, int version, uint32_t correlation_id, int32_t session_id, uint32_t topics, int is_committed_only);
void put_topic_name(Writer *writer, const uint8_t *name, int32_t name_bytes, int is_by_id, uint32_t partitions);
void put_partition(Writer *writer, const Read *read);
void put_no_tags(Writer *writer);
PyObject *finished_reply(Writer *writer);

/* fetch_answer.c */
int settle_reads(const Look *look, PyObject *parts, PyObject *image, int *is_named);
int is_news(const Read *read);
PyObject *put_last(const Look *look, const Read *read);
PyObject *write_answer(const Look *look, const int *is_named, int version, uint32_t correlation_id, int32_t session_id, int is_committed_only);

#endif
