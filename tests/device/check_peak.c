/* check_peak.c: the peak loops do what they count, and read what they should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "device/peak.h"

static void multiplies_as_often_as_it_says(void **state)
{
    (void)state;
    for (int isa = CPU_ISA_PLAIN; isa <= (int)device_cpu_isa(); isa++) {
        const struct peak_loops *loops = peak_pick((enum cpu_isa)isa);
        assert_int_equal(loops->needs, isa);
        for (int64_t rounds = 1; rounds <= 1000; rounds *= 10) {
            int32_t whole;
            float real;
            int64_t macs = loops->int8(rounds, &whole);
            assert_true(macs >= rounds);
            assert_int_equal((uint32_t)whole, (uint32_t)(macs * -15));
            macs = loops->bf16(rounds, &real);
            assert_true(macs >= rounds && real == 0.5f * (float)macs);
            macs = loops->f32(rounds, &real);
            assert_true(macs >= rounds && real == 0.5f * (float)macs);
        }
    }
}

static void reads_every_byte(void **state)
{
    (void)state;
    struct mem block;
    assert_int_equal(mem_ram(&block, 4 * PEAK_READ_STEP, "a test", NULL), 0);
    unsigned char *p = block.ptr;
    for (int isa = CPU_ISA_PLAIN; isa <= (int)device_cpu_isa(); isa++) {
        const struct peak_loops *loops = peak_pick((enum cpu_isa)isa);
        for (size_t i = 0; i < block.bytes; i++)
            p[i] = (unsigned char)(i * 7 + i / 256);
        uint64_t before = loops->read(p, block.bytes), shorter = loops->read(p, PEAK_READ_STEP);
        for (size_t i = 0; i < block.bytes; i++) {
            p[i] ^= 0x55;
            assert_true(loops->read(p, block.bytes) != before);
            p[i] ^= 0x55;
        }
        p[PEAK_READ_STEP] ^= 0x55;
        assert_true(loops->read(p, PEAK_READ_STEP) == shorter);
        assert_true(loops->read(p, 0) == 0);
    }
    mem_free(&block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiplies_as_often_as_it_says),
        cmocka_unit_test(reads_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
