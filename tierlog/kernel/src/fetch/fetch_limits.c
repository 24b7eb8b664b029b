/* How much a fetch may read, whether that is enough, and how it is counted. */
#include "fetches.h"

int is_throttled(Fetches *self, PyObject *connection)
{
    PyObject *software = get(connection, N_client_software);
    int found = software == NULL ? FAILED : (int)PyUnicode_Tailmatch(software, self->throttled_software, 0, PY_SSIZE_T_MAX, -1);
    Py_XDECREF(software);
    return found;
}

/* All that the fetch asks for may be read. */
static int check_memory(Fetches *self, int64_t max_bytes)
{
    int64_t limit, used;
    PyObject *memory = get(self->parts, N_reply_memory);
    int failed = memory == NULL || get_int64(memory, N__fetch_limit_bytes, &limit) < 0 || get_int64(memory, N_used_bytes, &used) < 0;
    Py_XDECREF(memory);
    return failed ? FAILED : max_bytes >= 0 && 2 * max_bytes <= limit - used;
}

/* The budget, as ``look.Look`` has it. */
int set_budget(Fetches *self, PyObject *config, int64_t max_bytes, int64_t min_bytes)
{
    Look *look = &self->look;
    int64_t most;
    READ(config, fetch_max_bytes, &most);
    look->max_bytes = max_bytes < most ? max_bytes : most;
    look->min_bytes = min_bytes < look->max_bytes ? min_bytes : look->max_bytes;
    return check_memory(self, look->max_bytes);
}

int is_enough(const Look *look) { return look->gathered_bytes + look->unsent_bytes >= look->min_bytes; }

int record(Fetches *self, int version, double arrival_s, int is_held)
{
    PyObject *now = PyObject_CallNoArgs(self->clock);
    double took_s = now == NULL ? 0 : PyFloat_AsDouble(now) - arrival_s;
    Py_XDECREF(now);
    return now == NULL ? FAILED : (is_held ? record_request : record_answer)(self->recorder, version, took_s) < 0 ? FAILED : FINE;
}
