/* Vectors as wide as the machine's, elements of matrices, and the one small matrix product that everything uses. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
static inline int thread_number(void) { return omp_get_thread_num(); }
#else
static inline int thread_number(void) { return 0; }
#endif

#if defined(__AVX512F__)
enum { LANES = 16, TILE = 14 }; /* a tile's sums, two panels' halves and one element fill the registers */
#elif defined(__AVX__)
enum { LANES = 8, TILE = 6 };
#else
enum { LANES = 4, TILE = 12 };
#endif

enum { PANEL = 2 * LANES, QUERIES = 32 /* of one attention task */ };

static inline int64_t padded(int64_t tokens) { return (tokens + PANEL - 1) / PANEL * PANEL; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

static inline vec load(const float *x) { return *(const loose *)x; }
static inline void store(float *x, vec v) { *(loose *)x = v; }

static inline vec larger(vec a, vec b) {
    ivec first = a > b; /* -1 where true */
    return (vec)(((ivec)a & first) | ((ivec)b & ~first));
}

static inline float total(vec v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

static inline float largest(vec v) {
    float most = v[0];
    for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
}

/* e^x to about 2 units in the last place: x = n ln 2 + r, a polynomial of r, and n as the exponent's bits.
   Below -87 it is 0 to float32's eyes, above 88 it stays at e^88; NaN stays NaN. Coefficients: Taylor. */
static inline vec exponential(vec x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to the nearest integer */
    ivec under = x < -87.0f, over = x > 88.0f;
    x = (vec)(((ivec)x & ~(under | over)) | ((ivec)((vec){0} + 88.0f) & over));
    vec shifted = x * 1.44269504f + magic, n = shifted - magic;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec sum = r * (1 / 5040.0f) + 1 / 720.0f;
    sum = sum * r + 1 / 120.0f;
    sum = sum * r + 1 / 24.0f;
    sum = sum * r + 1 / 6.0f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1;
    sum = sum * r + 1;
    ivec power = ((ivec)shifted - (ivec)((vec){0} + magic) + 127) << 23;
    return (vec)((ivec)(sum * (vec)power) & ~under);
}

#if ROUNDED

#include <immintrin.h>

typedef uint16_t elem; /* bfloat16 */
enum { PAIR = 2 };

static inline elem element(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7fc0 : (elem)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline vec load_elements(const elem *x) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
    return (vec)_mm512_slli_epi32(wide, 16);
}
static inline void store_elements(elem *x, vec v) {
    _mm256_storeu_si256((__m256i *)x, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
/* LANES numbers of two rows, in turn. */
static inline void store_interleaved(elem *x, const elem *first, const elem *second) {
    __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)first));
    __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)second));
    _mm512_storeu_si512(x, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}
static inline vec multiply_add(vec sum, const elem *one, const elem *many) {
    int32_t pair;
    memcpy(&pair, one, 4);
    __m512i halves = _mm512_loadu_si512(many);
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)halves);
}

#else

typedef float elem;
enum { PAIR = 1 };

static inline elem element(float x) { return x; }
static inline vec load_elements(const elem *x) { return load(x); }
static inline void store_elements(elem *x, vec v) { store(x, v); }
static inline void store_interleaved(elem *x, const elem *first, const elem *second) {
    (void)second;
    store(x, load(first));
}
static inline vec multiply_add(vec sum, const elem *one, const elem *many) { return sum + *one * load(many); }

#endif

/* One over the root mean square of n numbers. */
static inline float inverse_size(const float *x, int64_t n, float eps) {
    vec squares = {0};
    for (int64_t i = 0; i < n; i += LANES) squares += load(x + i) * load(x + i);
    return 1 / sqrtf(total(squares) / n + eps);
}

static inline float inverse_size_of_elements(const elem *x, int64_t n, float eps) {
    vec squares = {0};
    for (int64_t i = 0; i < n; i += LANES) squares += load_elements(x + i) * load_elements(x + i);
    return 1 / sqrtf(total(squares) / n + eps);
}

/* Numbers i to i + LANES of a head's gradient, turned back from its position. */
static inline vec turned_back(const elem *grad, const float *cos, const float *sin, int64_t i, int64_t half) {
    int64_t other = i < half ? i + half : i - half;
    return load_elements(grad + i) * load(cos + i) + load_elements(grad + other) * load(sin + other);
}

/* out (rows, PANEL), or what is added to it, = a (rows, PAIR * steps) times a packed panel; `rows` is constant once
   this is inlined. */
static inline __attribute__((always_inline)) void sums(const int rows, const elem *a, int64_t stride, int64_t next,
                                                       const elem *panel, int64_t steps, float *out, int64_t out_stride,
                                                       int add) {
    vec low[TILE], high[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        low[i] = add ? load(out + i * out_stride) : (vec){0};
        high[i] = add ? load(out + i * out_stride + LANES) : (vec){0};
    }
    for (int64_t k = 0; k < steps; k++, a += next, panel += PANEL * PAIR) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            low[i] = multiply_add(low[i], a + i * stride, panel);
            high[i] = multiply_add(high[i], a + i * stride, panel + LANES * PAIR);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        store(out + i * out_stride, low[i]);
        store(out + i * out_stride + LANES, high[i]);
    }
}

/* The same for any number of rows up to TILE. */
static inline void tile_product(int rows, const elem *a, int64_t stride, int64_t next, const elem *panel, int64_t steps,
                                float *out, int64_t out_stride, int add) {
    switch (rows) {
#define CASE(n)                                                                          \
    case n:                                                                              \
        sums(n <= TILE ? n : TILE, a, stride, next, panel, steps, out, out_stride, add); \
        break;
        CASE(1)
        CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#undef CASE
    }
}

/* The same for any number of rows; the next PAIR of a row stands `next` behind. */
static inline void strided_product(const elem *a, int64_t rows, int64_t stride, int64_t next, const elem *panel,
                                   int64_t steps, float *out, int64_t out_stride, int add) {
    while (rows > 0) {
        int64_t tiles = (rows + TILE - 1) / TILE, now = (rows + tiles - 1) / tiles;
        tile_product((int)now, a, stride, next, panel, steps, out, out_stride, add);
        a += now * stride, out += now * out_stride, rows -= now;
    }
}

static inline void panel_product(const elem *a, int64_t rows, int64_t stride, const elem *panel, int64_t steps,
                                 float *out, int64_t out_stride, int add) {
    strided_product(a, rows, stride, PAIR, panel, steps, out, out_stride, add);
}

/* Rows of a product are columns that were packed themselves: PANEL of them, `steps` = tokens / PAIR. */
static inline void turned_product(const elem *columns, const elem *panel, int64_t steps, float *out, int64_t out_stride,
                                  int add) {
    strided_product(columns, PANEL, PAIR, PANEL * PAIR, panel, steps, out, out_stride, add);
}

/* rows (count, dim) to panels over rows, with room for `places` rows; the unused ones are zero. */
static inline void pack_rows(const elem *rows, int64_t stride, int64_t count, int64_t places, int64_t dim, elem *out) {
    for (int64_t t = 0; t < places; t++) {
        elem *place = out + t / PANEL * PANEL * dim + t % PANEL * PAIR;
        for (int64_t i = 0; i < dim; i += PAIR, place += PANEL * PAIR)
            if (t < count)
                memcpy(place, rows + t * stride + i, sizeof(elem) * PAIR);
            else
                memset(place, 0, sizeof(elem) * PAIR);
    }
}

/* rows (count, dim) to panels over dim: `places` of the `all` rows that they have room for, unused ones zero. */
static inline void pack_columns(const elem *rows, int64_t stride, int64_t count, int64_t places, int64_t all,
                                int64_t dim, elem *out) {
    static const elem nothing[LANES];
    for (int64_t i = 0; i < dim; i += LANES)
        for (int64_t t = 0; t < places; t += PAIR) {
            const elem *first = t < count ? rows + t * stride + i : nothing;
            const elem *second = t + 1 < count ? rows + (t + 1) * stride + i : nothing;
            store_interleaved(out + i / PANEL * PANEL * all + t * PANEL + i % PANEL * PAIR, first, second);
        }
}
