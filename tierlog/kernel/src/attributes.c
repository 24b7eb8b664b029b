/* The names of the attributes, interned once. */
#include "attributes.h"

PyObject *interned[NAMES_COUNT];

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
