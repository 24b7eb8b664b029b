/* Bytes handed to a function for one call (lent.c). */
#ifndef TIERLOG_LENT_H
#define TIERLOG_LENT_H

#include "kernel.h"

int make_lent(void);
/* ``function(first, bytes, last)``, or without ``last`` where that is NULL. A builtin that writes is given the bytes where they
   lie, and is done with them when it returns; any other function a copy. */
PyObject *call_with_bytes(PyObject *function, PyObject *first, const void *bytes, Py_ssize_t size, PyObject *last);

#endif
