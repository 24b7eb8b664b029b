/* The module: the functions of all parts under one name. What they do is said in ``tierlog/kernel/_compiled.pyi``. */
#include "attributes.h"
#include "lent.h"

uint32_t crc32c_by_table(uint32_t crc, const uint8_t *data, size_t size);

static PyObject *checksum(PyObject *module, PyObject *args)
{
    Py_buffer data;
    unsigned int crc = 0;
    int by_table = 0;
    if (!PyArg_ParseTuple(args, "y*|Ip", &data, &crc, &by_table))
        return NULL;
    uint32_t found = by_table ? crc32c_by_table(crc, data.buf, (size_t)data.len) : crc32c(crc, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(found);
}

static PyMethodDef own_methods[] = {
    {"crc32c", checksum, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    choose_crc32c();
    if (intern_names() < 0 || make_lent() < 0)
        return -1;
    if (PyModule_AddFunctions(module, own_methods) < 0 || PyModule_AddFunctions(module, scan_methods) < 0
        || add_produce(module) < 0 || add_follow(module) < 0 || add_fetches(module) < 0
        || PyModule_AddFunctions(module, columns_methods) < 0 || PyModule_AddFunctions(module, packed_methods) < 0 || add_reasons(module) < 0
        || PyModule_AddFunctions(module, segment_methods) < 0 || PyModule_AddFunctions(module, offsets_methods) < 0
        || PyModule_AddFunctions(module, reads_methods) < 0 || PyModule_AddFunctions(module, received_methods) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "CRC32C", crc32c_name());
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tierlog.kernel._compiled",
    .m_doc = "The compiled half of tierlog.kernel.",
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__compiled(void) { return PyModuleDef_Init(&definition); }
