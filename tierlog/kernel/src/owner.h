/* A type of this module whose instances own Python objects: what the interpreter asks of each such type.

   ``OBJECTS(V)`` names the fields that own one; ``methods`` and ``initialize`` are there before ``OWNER_TYPE``. */
#ifndef TIERLOG_OWNER_H
#define TIERLOG_OWNER_H

#include "kernel.h"

#define VISIT_FIELD(name) Py_VISIT(self->name);
#define CLEAR_FIELD(name) Py_CLEAR(self->name);
#define NAME_FIELD(name) #name,
#define TAKE_FIELD(name) \
    Py_INCREF(name); \
    self->name = name;

#define OWNER(Type, OBJECTS) \
    static int traverse(Type *self, visitproc visit, void *arg) \
    { \
        Py_VISIT(Py_TYPE((PyObject *)self)); \
        OBJECTS(VISIT_FIELD) \
        return 0; \
    } \
    static int clear(Type *self) \
    { \
        OBJECTS(CLEAR_FIELD) \
        return 0; \
    } \
    static void dealloc(Type *self) \
    { \
        PyTypeObject *type = Py_TYPE((PyObject *)self); \
        PyObject_GC_UnTrack(self); \
        clear(self); \
        freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free); \
        release(self); \
        Py_DECREF(type); \
    }

#define OWNER_TYPE(Type, add) \
    static PyType_Slot slots[] = { \
        {Py_tp_init, initialize}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, \
        {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods}, {0, NULL}, \
    }; \
    static PyType_Spec spec = { \
        .name = "tierlog.kernel._compiled." #Type, \
        .basicsize = sizeof(Type), \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, \
        .slots = slots, \
    }; \
    int add(PyObject *module) \
    { \
        PyObject *type = PyType_FromSpec(&spec); \
        int failed = type == NULL || PyModule_AddObjectRef(module, #Type, type) < 0; \
        Py_XDECREF(type); \
        return failed ? -1 : 0; \
    }

#endif
