/* test_safetensors.c: every check of the safetensors reader has a file that fails it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/tensor_dir.h"

static char folder[] = "/tmp/tonne-test-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* Writes a file from its parts; gives its path in a static buffer per slot (0 or 1). */
static const char *write_file(int slot, uint64_t header_length, const char *header, const void *data,
                              size_t n)
{
    static char path[2][64];
    snprintf(path[slot], sizeof path[slot], "%s/%d.safetensors", folder, slot);
    FILE *f = fopen(path[slot], "wb");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fputc((int)(header_length >> 8 * i & 255), f);
    fputs(header, f);
    if (n)
        assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path[slot];
}

static const char *write_simple(int slot, const char *header, size_t data_bytes)
{
    char data[256];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)i;
    assert_true(data_bytes <= sizeof data);
    return write_file(slot, strlen(header), header, data, data_bytes);
}

static void reads_tensors_in_file_order(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct tensor_dir *d = NULL;
    const char *path = write_simple(0,
                                    "{\"__metadata__\":{\"format\":\"pt\"},"
                                    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                                    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                                    "\"\\u00e9\":{\"dtype\":\"F4\",\"shape\":[5,2],\"data_offsets\":[16,21]},"
                                    "\"empty\":{\"dtype\":\"I64\",\"shape\":[7,0],\"data_offsets\":[16,16]},"
                                    "\"new\":{\"dtype\":\"F3_X\",\"shape\":[9],\"data_offsets\":[21,24]}}   ",
                                    24);
    assert_int_equal(safetensors_open(&d, &path, 1, &e), 0);
    assert_int_equal(d->n_tensor, 5);
    assert_string_equal(d->tensor[0].name, "a");
    assert_string_equal(d->tensor[1].name, "b");
    assert_string_equal(d->tensor[2].name, "empty");
    const struct tensor *b = tensor_dir_find(d, "b");
    assert_non_null(b);
    assert_int_equal(b->type, QTYPE_BF16);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dim[1], 3);
    assert_int_equal(tensor_elements(b), 6);
    assert_int_equal(tensor_elements(tensor_dir_find(d, "a")), 1);
    assert_int_equal(tensor_elements(tensor_dir_find(d, "empty")), 0);
    assert_int_equal(tensor_dir_find(d, "\xc3\xa9")->type, QTYPE_NONE);
    assert_string_equal(tensor_dir_find(d, "new")->type_name, "F3_X");
    assert_null(tensor_dir_find(d, "c"));
    unsigned char bytes[3];
    assert_int_equal(tensor_read(d, b, 2, bytes, 3, &e), 0);
    assert_int_equal(bytes[0], 6);
    assert_int_equal(bytes[2], 8);
    assert_int_equal(tensor_read(d, b, 10, bytes, 3, &e), ERR_FORMAT);
    tensor_dir_close(&d);
    assert_null(d);
    unlink(path);
}

/* Entries of the header {"x": ...} and how much data follows; each is wrong in one way. */
static const struct {
    const char *header;
    size_t data_bytes;
    const char *what; /* part of the message */
} broken[] = {
    { "[1,2]", 0, "does not begin with {" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}", 1, "JSON" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
      "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
      2, "duplicate" },
    { "{\"__metadata__\":{\"a\":1},\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
      "__metadata__" },
    { "{\"x\":7}", 0, "no dtype" },
    { "{\"x\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype" },
    { "{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "not a list of sizes" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "not a list of sizes" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "9 dimensions" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "not two offsets" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "not two offsets" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,\"1\"]}}", 1, "not two offsets" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,1]}}", 2, "end before they begin" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]}}", 8, "outside the file" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]}}", 1,
      "outside the file" },
    { "{\"x\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "need 6 bytes, but it has 3" },
    { "{\"x\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "need 2 bytes" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
      "more elements" },
    { "{\"x\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
      "more elements" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "have a hole" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
      "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
      3, "overlap" },
    { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "last tensor ends" },
};

static void refuses_broken_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct err e = { 0 };
        struct tensor_dir *d = NULL;
        const char *path = write_simple(0, broken[i].header, broken[i].data_bytes);
        int rc = safetensors_open(&d, &path, 1, &e);
        if (rc != ERR_FORMAT || d || !strstr(e.what, broken[i].what) || !strstr(e.where, path) || !e.hint[0])
            fail_msg("%s: got %d \"%s\" at \"%s\", want \"%s\"", broken[i].header, rc, e.what, e.where,
                     broken[i].what);
        unlink(path);
    }
}

static void refuses_broken_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        const char *what;
    } lengths[] = {
        { 100000001, "more than the format allows" },
        { UINT64_MAX, "more than the format allows" },
        { 100000, "longer than the file" },
        { 0, "does not begin with {" },
    };
    struct err e;
    struct tensor_dir *d = NULL;
    const char *path;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        path = write_file(0, lengths[i].length, "{}", "", 0);
        assert_int_equal(safetensors_open(&d, &path, 1, &e), ERR_FORMAT);
        assert_non_null(strstr(e.what, lengths[i].what));
    }
    path = write_file(0, 2, "{}", "", 0);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(safetensors_open(&d, &path, 1, &e), ERR_FORMAT);
    assert_non_null(strstr(e.what, "only 5 bytes"));
    unlink(path);
    assert_int_equal(safetensors_open(&d, &path, 1, &e), ERR_FILE);
    assert_non_null(strstr(e.where, path));
}

static void joins_files_and_refuses_a_name_in_two(void **state)
{
    (void)state;
    struct err e;
    struct tensor_dir *d = NULL;
    const char *paths[2] = {
        write_simple(0, "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4),
        write_simple(1, "{\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2),
    };
    assert_int_equal(safetensors_open(&d, paths, 2, &e), 0);
    assert_int_equal(d->n_file, 2);
    assert_int_equal(tensor_dir_find(d, "y")->file, 1);
    tensor_dir_close(&d);
    write_simple(1, "{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2);
    assert_int_equal(safetensors_open(&d, paths, 2, &e), ERR_FORMAT);
    assert_non_null(strstr(e.what, "\"x\" is in two files"));
    assert_non_null(strstr(e.hint, paths[1]));
    unlink(paths[0]);
    unlink(paths[1]);
}

static void says_when_a_file_shrank_after_opening(void **state)
{
    (void)state;
    struct err e;
    struct tensor_dir *d = NULL;
    const char *path = write_simple(0, "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    char bytes[4];
    assert_int_equal(safetensors_open(&d, &path, 1, &e), 0);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(tensor_read(d, &d->tensor[0], 0, bytes, 4, &e), ERR_FILE);
    assert_non_null(strstr(e.where, "tensor \"x\""));
    tensor_dir_close(&d);
    unlink(path);
}

static void opens_the_trained_model(void **state)
{
    (void)state;
    const char *shared = getenv("TONNE_SHARED");
    char path[10][512];
    const char *paths[10];
    for (int i = 0; i < 10; i++) {
        snprintf(path[i], sizeof path[i], "%s/models/novelist/model-%05d-of-00010.safetensors",
                 shared ? shared : "../shared", i + 1);
        paths[i] = path[i];
    }
    if (access(path[0], R_OK))
        skip();
    struct err e;
    struct tensor_dir *d;
    assert_int_equal(safetensors_open(&d, paths, 10, &e), 0);
    const struct tensor *t = tensor_dir_find(d, "model.language_model.layers.0.mlp.experts.gate_up_proj");
    assert_non_null(t);
    assert_int_equal(tensor_elements(t), 24 * 512 * 256);
    assert_int_equal(t->type, QTYPE_BF16);
    tensor_dir_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_tensors_in_file_order),
        cmocka_unit_test(refuses_broken_headers),
        cmocka_unit_test(refuses_broken_lengths),
        cmocka_unit_test(joins_files_and_refuses_a_name_in_two),
        cmocka_unit_test(says_when_a_file_shrank_after_opening),
        cmocka_unit_test(opens_the_trained_model),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
