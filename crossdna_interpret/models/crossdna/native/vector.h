/* Vectors of numbers, and what all kernels do with them.
 *
 * Sizes that shape the loops are fixed when this is compiled:
 *   REAL    float or double           KEY, VALUE  sizes of a Comba head    TAPS  of Comba's convolution, 0 for none
 *   HEAD    size of an attention head
 *
 * Memory that grows with one of them comes from the heap, since nothing bounds the sizes of a model and the stack of a
 * thread may be small. It is taken once in a call; a function that takes some returns whether there was any.
 */
#ifndef VECTOR_H
#define VECTOR_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A vector is as wide as the machine's registers, since compilers keep wider ones in memory. BYTES as an option of the
 * compiler is for tests: every machine can compute with any width. */
#ifndef BYTES
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#endif

typedef REAL vec __attribute__((vector_size(BYTES)));
typedef REAL loose __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias)); /* at any address */
#if IS_DOUBLE
typedef int64_t bits __attribute__((vector_size(BYTES)));
#else
typedef int32_t bits __attribute__((vector_size(BYTES)));
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define LANES ((int)(BYTES / sizeof(REAL)))
#define WHOLE(n, step) (((n) + (step) - 1) / (step) * (step))
#define VECS(n) (((n) + LANES - 1) / LANES)
#define PADDED(n) WHOLE(n, LANES)
/* A tile of ROWS rows and STRIP vectors stays in registers, of which some of the 32 or 16 are left for what it is
 * multiplied with. */
#define ROWS 4
#define STRIP (BYTES == 64 ? 4 : 2)

#define ALIGNMENT 64
#define MATRIX(name, rows, columns) REAL name[rows][PADDED(columns)] __attribute__((aligned(ALIGNMENT)))
#ifndef ALLOCATE /* which a test replaces */
#define ALLOCATE(bytes) aligned_alloc(ALIGNMENT, WHOLE(bytes, (size_t)ALIGNMENT))
#endif

#if IS_DOUBLE
#define FADED 2.8126e-103 /* cube root of the smallest normal number, as in recurrence.py */
#define FLOOR -236.13185  /* its logarithm */
#else
#define FADED 2.2737e-13f
#define FLOOR -29.112123f
#endif

INLINE vec load(const REAL *p) { return *(const loose *)p; }
INLINE void store(REAL *p, vec x) { *(loose *)p = x; }
INLINE vec splat(REAL x) { return x - (vec){0}; }
INLINE vec pick(bits mask, vec yes, vec no) { return (vec)((mask & (bits)yes) | (~mask & (bits)no)); }

#if IS_DOUBLE
INLINE vec vexp(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}
#else
/* Range reduction to |r| <= ln(2)/2, where eight terms of the series are exact to half a unit in the last place. */
INLINE vec vexp(vec x) {
    x = pick(x < splat(-87.0f), splat(-87.0f), x);
    x = pick(x > splat(88.0f), splat(88.0f), x);
    const vec shift = splat(12582912.0f);
    vec n = x * splat(1.44269504f) + shift;
    const bits exponent = (bits)n << 23;
    n -= shift;
    const vec r = (x - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
    vec y = splat(1.0f / 5040);
    y = y * r + splat(1.0f / 720);
    y = y * r + splat(1.0f / 120);
    y = y * r + splat(1.0f / 24);
    y = y * r + splat(1.0f / 6);
    y = y * r + splat(0.5f);
    y = y * r + splat(1.0f);
    y = y * r + splat(1.0f);
    return (vec)((bits)y + exponent);
}
#endif

INLINE vec sigmoid(vec x) { return splat(1) / (splat(1) + vexp(-x)); }

/* Zeros for what has faded away: denormal numbers are slow. */
INLINE vec flush(vec x) { return (vec)((bits)x & ~((x < splat((REAL)FADED)) & (x > splat((REAL)-FADED)))); }

/* Sum of the lanes, in halves, which can be added side by side. */
INLINE REAL sum(vec x) {
    typedef REAL quarter __attribute__((vector_size(16)));
#if BYTES == 64
    typedef REAL half __attribute__((vector_size(32)));
    half h, high;
    memcpy(&h, &x, sizeof h), memcpy(&high, (const char *)&x + sizeof h, sizeof h);
    h += high;
#else
    const vec h = x;
#endif
    quarter q;
    memcpy(&q, &h, sizeof q);
#if BYTES > 16
    quarter upper;
    memcpy(&upper, (const char *)&h + sizeof q, sizeof q);
    q += upper;
#endif
    REAL total = q[0] + q[1];
    if (!IS_DOUBLE) total += q[2 % (16 / sizeof(REAL))] + q[3 % (16 / sizeof(REAL))];
    return total;
}

/* One tile: c[ROWS][strip vectors] = scale[row] c + a[ROWS][inner] b[inner][strip vectors]. */
INLINE void multiply_tile(const int strip, int inner, const REAL *a, int lda, const REAL *b, REAL *c, int ld,
                          const REAL *scale) {
    vec total[ROWS][STRIP];
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < strip; j++) total[r][j] =
        scale ? splat(scale[r]) * load(c + r * ld + j * LANES) : splat(0);
    for (int x = 0; x < inner; x++) {
        vec right[STRIP];
        UNROLL for (int j = 0; j < strip; j++) right[j] = load(b + x * ld + j * LANES);
        UNROLL for (int r = 0; r < ROWS; r++) {
            const vec left = splat(a[r * lda + x]);
            UNROLL for (int j = 0; j < strip; j++) total[r][j] += left * right[j];
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < strip; j++)
        store(c + r * ld + j * LANES, total[r][j]);
}

/* c[rows][columns] = scale[row] c + a[rows][inner] b[inner][columns], with rows a multiple of ROWS; scale NULL for none of
 * c. The rows of b and c are padded. */
INLINE void multiply(const int columns, int rows, int inner, const REAL *a, int lda, const REAL *b, REAL *c,
                     const REAL *scale) {
    const int ld = PADDED(columns), rest = VECS(columns) % STRIP, whole = VECS(columns) - rest;
    for (int i = 0; i < rows; i += ROWS) {
        const REAL *const left = a + i * lda, *const kept = scale ? scale + i : NULL;
        REAL *const to = c + i * ld;
        for (int j = 0; j < whole; j += STRIP)
            multiply_tile(STRIP, inner, left, lda, b + j * LANES, to + j * LANES, ld, kept);
        if (rest) multiply_tile(rest, inner, left, lda, b + whole * LANES, to + whole * LANES, ld, kept);
    }
}

#endif
