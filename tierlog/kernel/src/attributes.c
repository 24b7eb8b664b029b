/* The names of the attributes, interned once, and where the slots of types lie. */
#include "attributes.h"
#include <structmember.h>

PyObject *interned[NAMES_COUNT];
Place places[NAMES_COUNT][PLACES];

int intern_names(void)
{
    static const char *const texts[] = {
#define X(name) #name,
        NAMES(X)
#undef X
    };
    for (int i = 0; i < NAMES_COUNT; i++)
        if (interned[i] == NULL && (interned[i] = PyUnicode_InternFromString(texts[i])) == NULL)
            return -1;
    return 0;
}

/* Of an ordinary slot that nothing stands before; else 0. */
static Py_ssize_t own_offset(PyTypeObject *type, int name)
{
    if (type->tp_getattro != PyObject_GenericGetAttr)
        return 0;
    PyObject *found = PyObject_GetAttr((PyObject *)type, interned[name]);
    if (found == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_ssize_t offset = 0;
    if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        const PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        if (member->type == T_OBJECT_EX && member->flags == 0 && PyType_IsSubtype(type, PyDescr_TYPE(found)))
            offset = member->offset;
    }
    Py_DECREF(found);
    return offset;
}

Py_ssize_t find_offset(PyTypeObject *type, int name)
{
    Place *own = places[name];
    for (int i = 2; i < PLACES; i++)
        if (own[i].type == type)
            return own[i].offset;
    PyTypeObject *gone = own[PLACES - 1].type;
    for (int i = PLACES - 1; i > 0; i--)
        own[i] = own[i - 1];
    own[0] = (Place){(PyTypeObject *)Py_NewRef((PyObject *)type), own_offset(type, name)};
    Py_XDECREF((PyObject *)gone);
    return own[0].offset;
}

int convert_int64(PyObject *value, int64_t *found)
{
    int is_beyond;
    Py_INCREF(value);
    *found = PyLong_AsLongLongAndOverflow(value, &is_beyond);
    Py_DECREF(value);
    if (*found != -1)
        return 0;
    if (is_beyond)
        PyErr_SetString(PyExc_OverflowError, "an integer of more than 64 bits");
    return PyErr_Occurred() ? -1 : 0;
}
