/* CRC32C: the processor's own instruction where there is one, chosen when the kernel is loaded; tables otherwise. */
#include "kernel.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#define HAS_HARDWARE 1
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#define HAS_HARDWARE 1
#else
#define HAS_HARDWARE 0
#endif

#define POLYNOMIAL 0x82f63b78u
/* Three lanes of a run are computed side by side, since one step waits for the one before. */
#define LONG_LANE_BYTES 4096
#define SHORT_LANE_BYTES 256
#define TINY_LANE_BYTES 64

typedef uint32_t shift_table[4][256];

static uint32_t slices[8][256];
static shift_table long_lane, short_lane, tiny_lane;
/* x^(8 * digit * 16^place): what a register is multiplied with to stand in front of so many bytes. */
static uint32_t powers[8][16];
static int by_hardware;
static int by_multiplication;
/* From so many bytes on, their checksum is sooner put in its place by arithmetic than computed again from bytes in the cache. */
#define QUICKLY_JOINED_FROM_BYTES 512
#define SLOWLY_JOINED_FROM_BYTES (8 << 10)

/* The product of two polynomials modulo CRC32C's, bits reflected. */
static uint32_t product(uint32_t a, uint32_t b)
{
    uint32_t sum = 0;
    for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
        if (a & bit)
            sum ^= b;
        b = b & 1 ? b >> 1 ^ POLYNOMIAL : b >> 1;
    }
    return sum;
}

static uint32_t power_of(uint32_t bytes)
{
    uint32_t power = 0x80000000u;
    for (int place = 0; bytes; place++, bytes >>= 4)
        if (bytes & 15)
            power = product(power, powers[place][bytes & 15]);
    return power;
}

static void make_shift(shift_table table, uint32_t bytes)
{
    uint32_t power = power_of(bytes);
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t value = 0; value < 256; value++)
            table[byte][value] = product(value << 8 * byte, power);
}

static void make_tables(void)
{
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t crc = value;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        slices[0][value] = crc;
    }
    for (uint32_t value = 0; value < 256; value++)
        for (int slice = 1; slice < 8; slice++) {
            uint32_t before = slices[slice - 1][value];
            slices[slice][value] = before >> 8 ^ slices[0][before & 0xff];
        }
    uint32_t one_step = 0x00800000u; /* x^8 */
    for (int place = 0; place < 8; place++) {
        powers[place][0] = 0x80000000u; /* x^0 */
        for (int digit = 1; digit < 16; digit++)
            powers[place][digit] = product(powers[place][digit - 1], one_step);
        one_step = product(powers[place][15], one_step);
    }
    make_shift(long_lane, LONG_LANE_BYTES);
    make_shift(short_lane, SHORT_LANE_BYTES);
    make_shift(tiny_lane, TINY_LANE_BYTES);
}

#if defined(__x86_64__)
/* As ``powers``, for ``multiplied``. */
static uint32_t quick_powers[8][16];

/* The product of two polynomials and x^33, modulo CRC32C's: what two instructions give. */
__attribute__((target("sse4.2,pclmul"))) static uint32_t multiplied(uint32_t a, uint32_t b)
{
    __m128i found = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a), _mm_cvtsi32_si128((int)b), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(found));
}

/* Powers are divided by x^33, and so are the products of two of them. */
static void make_quick_powers(void)
{
    for (int place = 0; place < 8; place++)
        for (int digit = 0; digit < 16; digit++) {
            uint32_t power = powers[place][digit];
            for (int times = 0; times < 33; times++)
                power = power & 0x80000000u ? (power ^ POLYNOMIAL) << 1 | 1 : power << 1;
            quick_powers[place][digit] = power;
        }
}

static uint32_t quickly_in_front(uint32_t crc, uint32_t bytes)
{
    for (int place = 0; bytes; place++, bytes >>= 4)
        if (bytes & 15)
            crc = multiplied(crc, quick_powers[place][bytes & 15]);
    return crc;
}
#endif

static uint32_t by_table(uint32_t crc, const uint8_t *data, size_t size)
{
    while (size >= 8) {
        uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24);
        crc = slices[7][low & 0xff] ^ slices[6][low >> 8 & 0xff] ^ slices[5][low >> 16 & 0xff] ^ slices[4][low >> 24]
            ^ slices[3][data[4]] ^ slices[2][data[5]] ^ slices[1][data[6]] ^ slices[0][data[7]];
        data += 8;
        size -= 8;
    }
    while (size--)
        crc = crc >> 8 ^ slices[0][(crc ^ *data++) & 0xff];
    return crc;
}

#if HAS_HARDWARE

#if defined(__x86_64__)
#define HARDWARE __attribute__((target("sse4.2")))
#define STEP8(crc, value) _mm_crc32_u64(crc, value)
#define STEP1(crc, value) _mm_crc32_u8((uint32_t)(crc), value)
typedef uint64_t lane;
#else
#define HARDWARE __attribute__((target("+crc")))
#define STEP8(crc, value) __builtin_aarch64_crc32cx(crc, value)
#define STEP1(crc, value) __builtin_aarch64_crc32cb(crc, value)
typedef uint32_t lane;
#endif

static inline uint64_t word(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static inline uint32_t in_front(const shift_table table, uint32_t crc)
{
    return table[0][crc & 0xff] ^ table[1][crc >> 8 & 0xff] ^ table[2][crc >> 16 & 0xff] ^ table[3][crc >> 24];
}

/* As many rounds of three lanes as there are bytes for. */
HARDWARE static inline __attribute__((always_inline)) lane in_lanes(
    lane crc, const uint8_t **data, size_t *size, size_t lane_bytes, const shift_table table)
{
    const uint8_t *at = *data;
    while (*size >= 3 * lane_bytes) {
        lane second = 0, third = 0;
        for (const uint8_t *stop = at + lane_bytes; at < stop; at += 8) {
            crc = STEP8(crc, word(at));
            second = STEP8(second, word(at + lane_bytes));
            third = STEP8(third, word(at + 2 * lane_bytes));
        }
        crc = in_front(table, in_front(table, (uint32_t)crc) ^ (uint32_t)second) ^ (uint32_t)third;
        at += 2 * lane_bytes;
        *size -= 3 * lane_bytes;
    }
    *data = at;
    return crc;
}

HARDWARE static uint32_t with_instruction(uint32_t start, const uint8_t *data, size_t size)
{
    lane crc = start;
    crc = in_lanes(crc, &data, &size, LONG_LANE_BYTES, long_lane);
    crc = in_lanes(crc, &data, &size, SHORT_LANE_BYTES, short_lane);
    crc = in_lanes(crc, &data, &size, TINY_LANE_BYTES, tiny_lane);
    while (size >= 8) {
        crc = STEP8(crc, word(data));
        data += 8;
        size -= 8;
    }
    while (size--)
        crc = STEP1(crc, *data++);
    return (uint32_t)crc;
}
#endif

void choose_crc32c(void)
{
    make_tables();
#if defined(__x86_64__)
    by_hardware = __builtin_cpu_supports("sse4.2") != 0;
    by_multiplication = by_hardware && __builtin_cpu_supports("pclmul") != 0;
    make_quick_powers();
#elif HAS_HARDWARE
    by_hardware = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

const char *crc32c_name(void) { return by_hardware ? "instruction" : "table"; }

uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t size)
{
#if HAS_HARDWARE
    if (by_hardware)
        return ~with_instruction(~crc, data, size);
#endif
    return ~by_table(~crc, data, size);
}

uint32_t crc32c_by_table(uint32_t crc, const uint8_t *data, size_t size) { return ~by_table(~crc, data, size); }

uint32_t crc32c_in_front(uint32_t crc, size_t bytes)
{
#if defined(__x86_64__)
    if (by_multiplication)
        return quickly_in_front(crc, (uint32_t)bytes);
#endif
    return bytes ? product(crc, power_of((uint32_t)bytes)) : crc;
}

size_t crc32c_joined_from(void) { return by_multiplication ? QUICKLY_JOINED_FROM_BYTES : SLOWLY_JOINED_FROM_BYTES; }
