/* test_gguf.c: the GGUF reader's checks, each with a file that fails it; split files; the writer, read back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "model/gguf.h"

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

/* ---- a file built byte by byte ---- */

struct image {
    unsigned char at[4096];
    size_t n;
};

static void put(struct image *f, const void *data, size_t n)
{
    assert_true(f->n + n <= sizeof f->at);
    memcpy(f->at + f->n, data, n);
    f->n += n;
}

static void put_int(struct image *f, int bytes, uint64_t v)
{
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(v >> 8 * i);
        put(f, &byte, 1);
    }
}

static void put_text(struct image *f, const char *s)
{
    put_int(f, 8, strlen(s));
    put(f, s, strlen(s));
}

static void begin(struct image *f, uint64_t n_tensor, uint64_t n_pair)
{
    f->n = 0;
    put(f, "GGUF", 4);
    put_int(f, 4, 3);
    put_int(f, 8, n_tensor);
    put_int(f, 8, n_pair);
}

static void put_u32_pair(struct image *f, const char *key, uint32_t v)
{
    put_text(f, key);
    put_int(f, 4, GGUF_U32);
    put_int(f, 4, v);
}

static void put_info(struct image *f, const char *name, uint32_t n_dims, uint64_t ne0, uint64_t ne1,
                     uint32_t type, uint64_t offset)
{
    put_text(f, name);
    put_int(f, 4, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_int(f, 8, i == 0 ? ne0 : i == 1 ? ne1 : 1);
    put_int(f, 4, type);
    put_int(f, 8, offset);
}

static void pad(struct image *f, size_t align)
{
    while (f->n % align)
        put_int(f, 1, 0);
}

static void put_data(struct image *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_int(f, 1, i & 255);
}

/* One F32 tensor "x" of 4 values and one U32 key: nothing wrong with it. */
static void make_good(struct image *f)
{
    begin(f, 1, 1);
    put_u32_pair(f, "k", 7);
    put_info(f, "x", 1, 4, 0, 0, 0);
    pad(f, 32);
    put_data(f, 16);
}

static const char *path_of(const char *name)
{
    static char path[4][96];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void save(const struct image *f, const char *path)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(f->at, 1, f->n, out), f->n);
    assert_int_equal(fclose(out), 0);
}

static void expect_refused(const struct image *f, const char *what)
{
    const char *path = path_of("bad.gguf");
    struct gguf_meta *m = NULL;
    struct tensor_dir *d = NULL;
    struct err e = { 0 };
    save(f, path);
    int rc = gguf_open(&m, &d, path, &e);
    if (rc != ERR_FORMAT || m || d || !strstr(e.what, what) || !strstr(e.where, path) || !e.hint[0])
        fail_msg("want \"%s\", got %d \"%s\" at \"%s\", try \"%s\"", what, rc, e.what, e.where, e.hint);
    unlink(path);
}

/* ---- reading ---- */

static void reads_the_plain_file(void **state)
{
    (void)state;
    struct image f;
    struct gguf_meta *m = NULL;
    struct tensor_dir *d = NULL;
    struct err e;
    const char *path = path_of("good.gguf");
    for (uint32_t version = 2; version <= 3; version++) {
        make_good(&f);
        f.at[4] = (unsigned char)version;
        save(&f, path);
        assert_int_equal(gguf_open(&m, &d, path, &e), 0);
        assert_int_equal(m->version, version);
        assert_int_equal(m->alignment, 32);
        assert_int_equal(m->n_split, 1);
        assert_int_equal(d->n_tensor, 1);
        assert_int_equal(d->tensor[0].type, QTYPE_F32);
        assert_int_equal(d->tensor[0].bytes, 16);
        unsigned char bytes[4];
        assert_int_equal(tensor_read(d, &d->tensor[0], 4, bytes, 4, &e), 0);
        assert_int_equal(bytes[0], 4);
        gguf_meta_close(&m);
        tensor_dir_close(&d);
    }
    unlink(path);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    struct image f, cut;
    make_good(&f);
    for (size_t n = 0; n < f.n; n++) {
        cut = f;
        cut.n = n;
        expect_refused(&cut, "file");
    }
}

static void refuses_wrong_beginnings(void **state)
{
    (void)state;
    struct image f;
    make_good(&f);
    f.at[0] = 'g';
    expect_refused(&f, "not a GGUF file");
    make_good(&f);
    f.at[4] = 1;
    expect_refused(&f, "version 1");
    f.at[4] = 4;
    expect_refused(&f, "version 4");
    f.at[4] = 0, f.at[7] = 3;
    expect_refused(&f, "big-endian");
    begin(&f, 1ull << 60, 0);
    expect_refused(&f, "tensors");
    begin(&f, 0, 1ull << 60);
    expect_refused(&f, "keys");
    begin(&f, 0, UINT64_MAX);
    expect_refused(&f, "keys");
}

static void refuses_wrong_keys(void **state)
{
    (void)state;
    struct image f;
    begin(&f, 0, 1);
    put_text(&f, "");
    put_int(&f, 4, GGUF_U64);
    put_int(&f, 8, 1);
    expect_refused(&f, "a key has 0 bytes");
    begin(&f, 0, 1);
    put_u32_pair(&f, "caf\xc3\xa9", 1);
    expect_refused(&f, "byte 0xc3");
    begin(&f, 0, 2);
    put_u32_pair(&f, "k", 1);
    put_u32_pair(&f, "k", 2);
    expect_refused(&f, "\"k\" is there twice");
    begin(&f, 0, 1);
    put_int(&f, 8, 1ull << 40);
    put_data(&f, 20);
    expect_refused(&f, "past the end");
}

static void refuses_wrong_values(void **state)
{
    (void)state;
    struct image f;
    begin(&f, 0, 1);
    put_text(&f, "k");
    put_int(&f, 4, 13);
    put_int(&f, 8, 0);
    expect_refused(&f, "unknown type 13");
    begin(&f, 0, 1);
    put_text(&f, "k");
    put_int(&f, 4, GGUF_BOOL);
    put_int(&f, 8, 2);
    expect_refused(&f, "bool");
    static const struct {
        uint32_t elem;
        uint64_t count;
        const char *what;
    } arrays[] = {
        { GGUF_ARRAY, 1, "array of arrays" },     { 77, 1, "unknown type 77" },
        { GGUF_U32, 1ull << 60, "past the end" }, { GGUF_U64, 1ull << 62, "elements" },
        { GGUF_STRING, 1ull << 61, "more than" }, { GGUF_STRING, 2, "past the end" },
        { GGUF_BOOL, 8, "array of bools" },
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        begin(&f, 0, 1);
        put_text(&f, "k");
        put_int(&f, 4, GGUF_ARRAY);
        put_int(&f, 4, arrays[i].elem);
        put_int(&f, 8, arrays[i].count);
        put_int(&f, 8, 7); /* as strings: one of 7 bytes, then nothing */
        put_data(&f, 8);
        expect_refused(&f, arrays[i].what);
    }
    for (uint32_t align = 0; align < 40; align++) {
        if (align == 8 || align == 16 || align == 32)
            continue;
        begin(&f, 0, 1);
        put_u32_pair(&f, "general.alignment", align);
        expect_refused(&f, "power of two");
    }
    begin(&f, 0, 1);
    put_text(&f, "general.alignment");
    put_int(&f, 4, GGUF_U64);
    put_int(&f, 8, 32);
    expect_refused(&f, "not a u32");
}

static void refuses_wrong_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t n_dims;
        uint64_t ne0, ne1;
        uint32_t type;
        uint64_t offset;
        const char *what;
    } one[] = {
        { "", 1, 4, 0, 0, 0, "name has 0 bytes" },
        { "a23456789a23456789a23456789a23456789a23456789a23456789a23456789a", 1, 4, 0, 0, 0,
          "name has 64 bytes" },
        { "x", 5, 4, 1, 0, 0, "5 dimensions" },
        { "x", 2, 4, 1ull << 63, 0, 0, "dimension of" },
        { "x", 2, 1ull << 32, 1ull << 32, 0, 0, "more elements" },
        { "x", 2, 1ull << 32, 1ull << 30, 27, 0, "more bytes" },
        { "x", 1, 48, 0, 8, 0, "no whole number of q8_0 blocks" },
        { "x", 1, 4, 0, 0, 32, "the ones before end at 0" },
        { "x", 1, 1024, 0, 0, 0, "outside the file" },
    };
    struct image f;
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        begin(&f, 1, 0);
        put_info(&f, one[i].name, one[i].n_dims, one[i].ne0, one[i].ne1, one[i].type, one[i].offset);
        pad(&f, 32);
        put_data(&f, 64);
        expect_refused(&f, one[i].what);
    }
    for (uint64_t second = 0; second < 96; second += 16) {
        if (second == 32)
            continue; /* 16 bytes, padded */
        begin(&f, 2, 0);
        put_info(&f, "x", 1, 4, 0, 0, 0);
        put_info(&f, "y", 1, 4, 0, 0, second);
        pad(&f, 32);
        put_data(&f, 128);
        expect_refused(&f, "the ones before end at 32");
    }
    begin(&f, 2, 0);
    put_info(&f, "x", 1, 4, 0, 0, 0);
    put_info(&f, "x", 1, 4, 0, 0, 32);
    pad(&f, 32);
    put_data(&f, 48);
    expect_refused(&f, "\"x\" is listed twice");
}

static void keeps_types_it_does_not_know(void **state)
{
    (void)state;
    struct image f;
    struct gguf_meta *m;
    struct tensor_dir *d;
    struct err e;
    const char *path = path_of("ik.gguf");
    begin(&f, 3, 0);
    put_info(&f, "x", 1, 256, 0, 139, 0); /* 144 bytes, which we do not know */
    put_info(&f, "y", 1, 4, 0, 0, 160);
    put_info(&f, "z", 1, 4, 0, 300, 192);
    pad(&f, 32);
    put_data(&f, 240);
    save(&f, path);
    assert_int_equal(gguf_open(&m, &d, path, &e), 0);
    const struct tensor *x = tensor_dir_find(d, "x"), *z = tensor_dir_find(d, "z");
    assert_int_equal(x->type, QTYPE_NONE);
    assert_string_equal(x->type_name, "IQ4_K of ik_llama.cpp");
    assert_int_equal(x->bytes, 160);
    assert_string_equal(z->type_name, "ik_llama.cpp type 300");
    assert_int_equal(z->bytes, 48);
    gguf_meta_close(&m);
    tensor_dir_close(&d);
    unlink(path);
    begin(&f, 2, 0);
    put_info(&f, "x", 1, 256, 0, 139, 0);
    put_info(&f, "y", 1, 4, 0, 0, 150); /* unaligned */
    pad(&f, 32);
    put_data(&f, 240);
    expect_refused(&f, "the data after it");
}

static void obeys_the_file_s_alignment(void **state)
{
    (void)state;
    struct image f;
    struct gguf_meta *m;
    struct tensor_dir *d;
    struct err e;
    const char *path = path_of("align.gguf");
    begin(&f, 2, 1);
    put_u32_pair(&f, "general.alignment", 8);
    put_info(&f, "x", 1, 1, 0, 0, 0);
    put_info(&f, "y", 1, 1, 0, 0, 8);
    pad(&f, 8);
    size_t data = f.n;
    put_data(&f, 12);
    save(&f, path);
    assert_int_equal(gguf_open(&m, &d, path, &e), 0);
    assert_int_equal(m->alignment, 8);
    assert_int_equal(tensor_dir_find(d, "y")->offset, data + 8);
    gguf_meta_close(&m);
    tensor_dir_close(&d);
    unlink(path);
}

/* ---- splits ---- */

static void make_part(struct image *f, int no, int count, int total, const char *tensor)
{
    begin(f, tensor ? 1 : 0, 3);
    put_text(f, "split.no");
    put_int(f, 4, GGUF_U16);
    put_int(f, 2, (uint64_t)no);
    put_text(f, "split.count");
    put_int(f, 4, GGUF_U16);
    put_int(f, 2, (uint64_t)count);
    put_text(f, "split.tensors.count");
    put_int(f, 4, GGUF_I32);
    put_int(f, 4, (uint64_t)total);
    if (tensor) {
        put_info(f, tensor, 1, 4, 0, 0, 0);
        pad(f, 32);
        put_data(f, 16);
    }
}

static int open_split(const char *path, struct err *e)
{
    struct gguf_meta *m = NULL;
    struct tensor_dir *d = NULL;
    int rc = gguf_open(&m, &d, path, e);
    if (!rc) {
        int64_t no;
        assert_int_equal(m->n_split, 3);
        assert_int_equal(d->n_tensor, 2);
        assert_int_equal(tensor_dir_find(d, "b")->file, 2);
        assert_int_equal(gguf_get_int(m, "split.no", 0, 9, -1, &no, e), 0);
        assert_int_equal(no, 0); /* the keys are the first part's */
    }
    gguf_meta_close(&m);
    tensor_dir_close(&d);
    return rc;
}

static void joins_split_files_from_any_part(void **state)
{
    (void)state;
    static const char *const names[3] = { "m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                          "m-00003-of-00003.gguf" };
    static const char *const tensors[3] = { NULL, "a", "b" };
    struct image f;
    struct err e;
    for (int i = 0; i < 3; i++) {
        make_part(&f, i, 3, 2, tensors[i]);
        save(&f, path_of(names[i]));
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(open_split(path_of(names[i]), &e), 0);

    make_part(&f, 1, 3, 2, "a"); /* a part under another part's name */
    save(&f, path_of(names[2]));
    assert_int_equal(open_split(path_of(names[0]), &e), ERR_FORMAT);
    assert_non_null(strstr(e.what, "by its keys part 2"));
    make_part(&f, 2, 3, 2, "a");
    save(&f, path_of(names[2]));
    assert_int_equal(open_split(path_of(names[0]), &e), ERR_FORMAT);
    assert_non_null(strstr(e.what, "\"a\" is in two files"));
    make_part(&f, 2, 3, 3, NULL);
    save(&f, path_of(names[2]));
    assert_int_equal(open_split(path_of(names[1]), &e), ERR_FORMAT);
    assert_non_null(strstr(e.what, "split.tensors.count"));
    unlink(path_of(names[2]));
    assert_int_equal(open_split(path_of(names[0]), &e), ERR_FILE);
    assert_non_null(strstr(e.what, "part 3 of 3 is missing"));
    assert_int_equal(rename(path_of(names[1]), path_of("lone.gguf")), 0);
    assert_int_equal(open_split(path_of("lone.gguf"), &e), ERR_FORMAT);
    assert_non_null(strstr(e.what, "its name does not say so"));
    unlink(path_of("lone.gguf"));
    unlink(path_of(names[0]));
}

/* ---- writing, read back ---- */

enum { VOCABULARY = 250000 };

static void write_keys(struct gguf_writer *w, struct gguf_string *words, const int32_t *types)
{
    static const int64_t wide[2] = { -5, 1ll << 40 };
    gguf_write_str(w, "general.architecture", "test", 4);
    gguf_write_u32(w, "a.count", 4000000000u);
    gguf_write_f32(w, "a.eps", 1e-6f);
    gguf_write_bool(w, "a.flag", true);
    gguf_write_array(w, "a.wide", GGUF_I64, wide, 2);
    gguf_write_strings(w, "words", words, VOCABULARY);
    gguf_write_array(w, "types", GGUF_I32, types, VOCABULARY);
    gguf_write_value(w, "copy.neg", &(struct gguf_value){ .type = GGUF_I16, .count = 1, .i = -2 });
    gguf_write_value(w, "copy.f64", &(struct gguf_value){ .type = GGUF_F64, .count = 1, .f = 0.1 });
    gguf_write_value(w, "copy.f32", &(struct gguf_value){ .type = GGUF_F32, .count = 1, .f = 0.5 });
}

static void check_keys(const struct gguf_meta *m)
{
    struct err e;
    int64_t i;
    double f;
    bool flag;
    assert_int_equal(gguf_get_int(m, "a.count", 0, INT64_MAX, 0, &i, &e), 0);
    assert_int_equal(i, 4000000000);
    assert_int_equal(gguf_get_int(m, "a.count", 0, 100, 0, &i, &e), ERR_FORMAT);
    assert_int_equal(gguf_get_int(m, "a.none", 0, 100, 55, &i, &e), 0);
    assert_int_equal(i, 55);
    assert_int_equal(gguf_get_int(m, "a.eps", 0, 100, 0, &i, &e), ERR_FORMAT);
    assert_int_equal(gguf_get_real(m, "a.eps", 0, &f, &e), 0);
    assert_true(f == (double)1e-6f);
    assert_int_equal(gguf_get_real(m, "a.flag", 0, &f, &e), ERR_FORMAT);
    assert_int_equal(gguf_get_bool(m, "a.flag", false, &flag, &e), 0);
    assert_true(flag);
    assert_int_equal(gguf_get_bool(m, "a.eps", false, &flag, &e), ERR_FORMAT);
    assert_int_equal(gguf_get_int(m, "copy.neg", -9, 9, 0, &i, &e), 0);
    assert_int_equal(i, -2);
    assert_int_equal(gguf_get_real(m, "copy.f64", 0, &f, &e), 0);
    assert_true(f == 0.1);
    assert_int_equal(gguf_get_real(m, "copy.f32", 0, &f, &e), 0);
    assert_true(f == 0.5);
    assert_true(gguf_array_int(gguf_find(m, "a.wide"), 1, &i));
    assert_int_equal(i, 1ll << 40);
    assert_false(gguf_array_int(gguf_find(m, "a.wide"), 2, &i));
    assert_true(gguf_array_int(gguf_find(m, "a.count"), 9, &i));
    assert_false(gguf_array_int(gguf_find(m, "words"), 0, &i));
    assert_int_equal(gguf_get_str(m, "general.architecture").len, 4);
    assert_null(gguf_get_str(m, "a.count").data);
    const struct gguf_value *words = gguf_find(m, "words");
    assert_int_equal(words->count, VOCABULARY);
    const struct gguf_string *last = (const struct gguf_string *)words->array + VOCABULARY - 1;
    assert_int_equal(last->len, 6);
    assert_memory_equal(last->data, "249999", 6);
    assert_true(gguf_array_int(gguf_find(m, "types"), VOCABULARY - 1, &i));
    assert_int_equal(i, 1 - VOCABULARY);
}

static void write_model(const char *path, struct gguf_string *words, const int32_t *types)
{
    struct gguf_writer *w;
    struct err e = { 0 };
    static const int64_t matrix[2] = { 3, 64 }, vector[1] = { 5 }, empty[2] = { 0, 32 };
    unsigned char data[3 * 68];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)i;
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    write_keys(w, words, types);
    gguf_write_tensor(w, "matrix", QTYPE_Q8_0, matrix, 2);
    gguf_write_tensor(w, "empty", QTYPE_Q8_0, empty, 2);
    gguf_write_tensor(w, "vector", QTYPE_F32, vector, 1);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(access(path, F_OK), -1); /* nothing under the final name yet */
    assert_int_equal(gguf_writer_put(w, 2, 0, data, 20, &e), 0);
    assert_int_equal(gguf_writer_put(w, 0, 100, data + 100, 104, &e), 0);
    assert_int_equal(gguf_writer_put(w, 0, 100, data, 105, &e), ERR_USAGE);
    assert_int_equal(gguf_writer_put(w, 3, 0, data, 1, &e), ERR_USAGE);
    assert_int_equal(gguf_writer_put(w, 0, 0, data, 100, &e), 0);
    assert_int_equal(gguf_writer_commit(&w, &e), 0);
    assert_null(w);
}

static void reads_back_what_it_writes(void **state)
{
    (void)state;
    struct gguf_string *words = malloc(VOCABULARY * sizeof *words);
    int32_t *types = malloc(VOCABULARY * sizeof *types);
    char *text = malloc(VOCABULARY * 8);
    assert_true(words && types && text);
    for (int i = 0; i < VOCABULARY; i++) {
        words[i].data = text + 8 * i;
        words[i].len = (size_t)snprintf(text + 8 * i, 8, "%d", i);
        types[i] = -i;
    }
    const char *path = path_of("written.gguf");
    write_model(path, words, types);
    struct gguf_meta *m;
    struct tensor_dir *d;
    struct err e;
    double start = clock_seconds();
    assert_int_equal(gguf_open(&m, &d, path, &e), 0);
    assert_true(clock_seconds() - start < 1.0);
    check_keys(m);
    assert_int_equal(m->n_pair, 10);
    assert_int_equal(d->n_tensor, 3);
    const struct tensor *t = tensor_dir_find(d, "matrix");
    assert_int_equal(t->type, QTYPE_Q8_0);
    assert_int_equal(t->dim[0], 3);
    assert_int_equal(t->dim[1], 64);
    unsigned char byte;
    assert_int_equal(tensor_read(d, t, 203, &byte, 1, &e), 0);
    assert_int_equal(byte, 203);
    t = tensor_dir_find(d, "vector");
    assert_int_equal(t->bytes, 20);
    assert_int_equal(t->offset % 32, 0);
    gguf_meta_close(&m);
    tensor_dir_close(&d);
    unlink(path);
    free(words);
    free(types);
    free(text);
}

static void an_unfinished_file_never_appears(void **state)
{
    (void)state;
    struct gguf_writer *w;
    struct err e;
    static const int64_t dim[2] = { 1, 33 };
    const char *path = path_of("unfinished.gguf");
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    gguf_write_tensor(w, "x", QTYPE_F32, dim, 2);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_put(w, 0, 0, "1234", 4, &e), 0);
    assert_int_equal(gguf_writer_commit(&w, &e), ERR_USAGE);
    assert_null(w);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    gguf_write_tensor(w, "x", QTYPE_Q8_0, dim, 2); /* 33 is no whole number of blocks */
    assert_int_equal(gguf_writer_begin(w, &e), ERR_FORMAT);
    gguf_writer_abort(&w);
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    gguf_write_tensor(w, "x", QTYPE_NF4, dim, 1);
    assert_int_equal(gguf_writer_begin(w, &e), ERR_FORMAT);
    gguf_writer_abort(&w);
}

static void opens_the_trained_model(void **state)
{
    (void)state;
    const char *shared = getenv("TONNE_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/models/novelist-q8_0.gguf", shared ? shared : "../shared");
    if (access(path, R_OK))
        skip();
    struct gguf_meta *m;
    struct tensor_dir *d;
    struct err e;
    assert_int_equal(gguf_open(&m, &d, path, &e), 0);
    assert_int_equal(m->n_pair, 39);
    assert_int_equal(d->n_tensor, 169);
    const struct tensor *t = tensor_dir_find(d, "blk.0.ffn_gate_exps.weight");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 3);
    assert_int_equal(t->dim[0], 24);
    assert_int_equal(t->type, QTYPE_Q8_0);
    gguf_meta_close(&m);
    tensor_dir_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_plain_file),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(refuses_wrong_beginnings),
        cmocka_unit_test(refuses_wrong_keys),
        cmocka_unit_test(refuses_wrong_values),
        cmocka_unit_test(refuses_wrong_tensors),
        cmocka_unit_test(keeps_types_it_does_not_know),
        cmocka_unit_test(obeys_the_file_s_alignment),
        cmocka_unit_test(joins_split_files_from_any_part),
        cmocka_unit_test(reads_back_what_it_writes),
        cmocka_unit_test(an_unfinished_file_never_appears),
        cmocka_unit_test(opens_the_trained_model),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
