/* The elementwise and recurrent parts of CrossDNA's forward pass on the CPU, each in one sweep through memory.
 *
 * Matrix products with the weights stay with the library. What is left is many short operations on tensors that do not
 * fit the caches; here each (sequence, head) is worked through in a few tens of kilobytes. The functions compute what the
 * PyTorch code of the same name does (recurrence.py, comba.py, attention.py, bridge.py), which is their reference.
 *
 * Sizes that shape the loops are fixed when this is compiled:
 *   REAL    float or double           KEY, VALUE  sizes of a Comba head    TAPS  of Comba's convolution, 0 for none
 *   HEAD    size of an attention head
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A vector is as wide as the machine's registers, since compilers keep wider ones in memory; or as wide as told, which
 * every machine can compute. STRIP vectors in each of ROWS rows leave some of the 32 or 16 registers for what they are
 * multiplied with. */
#ifndef BYTES
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#endif
#define STRIP (BYTES == 64 ? 4 : 2)

typedef REAL vec __attribute__((vector_size(BYTES)));
typedef REAL loose __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias)); /* at any address */

#define LANES ((int)(BYTES / sizeof(REAL)))
#define VECS(n) (((n) + LANES - 1) / LANES)
#define PADDED(n) (VECS(n) * LANES)
#define UNROLL _Pragma("GCC unroll 16")
#define ROWS 4 /* rows of a register tile */
#define KEYS (BYTES == 64 ? 1 : 2) /* vectors of keys that attention scores at once */
#define CHUNK 32 /* positions that Comba works through at once */
#define REACH 9 /* taps of the bridge's convolutions */
#define INLINE static inline __attribute__((always_inline))
#define SCRATCH(name, rows, columns) REAL name[rows][PADDED(columns)] __attribute__((aligned(64)))

INLINE vec load(const REAL *p) { return *(const loose *)p; }
INLINE void store(REAL *p, vec x) { *(loose *)p = x; }
INLINE vec splat(REAL x) { return x - (vec){0}; }

#if IS_DOUBLE
typedef int64_t bits __attribute__((vector_size(BYTES)));
#define FADED 2.8126e-103 /* cube root of the smallest normal number, as in recurrence.py */
#define FLOOR -236.13185
INLINE vec vexp(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}
#else
typedef int32_t bits __attribute__((vector_size(BYTES)));
#define FADED 2.2737e-13f
#define FLOOR -29.112123f
INLINE vec pick(bits mask, vec yes, vec no) { return (vec)((mask & (bits)yes) | (~mask & (bits)no)); }
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
INLINE vec flush(vec x) { /* zeros for what has faded away: denormal numbers are slow */
    return (vec)((bits)x & ~((x < splat((REAL)FADED)) & (x > splat((REAL)-FADED))));
}
INLINE REAL sum(vec x) { /* in halves, which can be added side by side */
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

/* A strip of a tile of rows, which stays in registers: c = scale[row] c + a[ROWS][inner] b[inner][strip vectors]. */
INLINE void multiply(const int strip, int inner, const REAL *a, int lda, const REAL *b, REAL *c, int ld,
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
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < strip; j++) store(c + r * ld + j * LANES, total[r][j]);
}

/* A strip of a tile of rows of U = V - system U, in the place of V; rows above the tile, of which there are so many, are
 * known. They are taken in first, and then the tile's own. */
INLINE void substitute(const int strip, int above, const REAL *system, int lds, const REAL *known, REAL *v, int ld) {
    vec u[ROWS][STRIP];
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < strip; j++) u[r][j] = load(v + r * ld + j * LANES);
    for (int x = 0; x < above; x++) {
        vec right[STRIP];
        UNROLL for (int j = 0; j < strip; j++) right[j] = load(known + x * ld + j * LANES);
        UNROLL for (int r = 0; r < ROWS; r++) {
            const vec left = splat(system[r * lds + x]);
            UNROLL for (int j = 0; j < strip; j++) u[r][j] -= left * right[j];
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < strip; j++) {
        UNROLL for (int x = 0; x < r; x++) u[r][j] -= splat(system[r * lds + above + x]) * u[x][j];
        u[r][j] = flush(u[r][j]);
        store(v + r * ld + j * LANES, u[r][j]);
    }
}

/* Does for all strips of VECS vectors what DO(strip, first number) does for one. */
#define STRIPS(VECS_, DO)                                                                     \
    do {                                                                                      \
        for (int j_ = 0; j_ + STRIP <= (VECS_); j_ += STRIP) DO(STRIP, j_ * LANES);           \
        if ((VECS_) % STRIP) DO((VECS_) % STRIP, (VECS_) / STRIP * STRIP * LANES);            \
    } while (0)

/* c[rows][columns] = scale[row] c + a[rows][inner] b[inner][columns], rows a multiple of ROWS; scale NULL for none of c. */
#define MULTIPLY(NAME, COLUMNS)                                                                                       \
    INLINE void NAME(int rows, int inner, const REAL *a, int lda, const REAL *b, REAL *c, const REAL *scale) {          \
        enum { LD = PADDED(COLUMNS) };                                                                                \
        for (int i = 0; i < rows; i += ROWS) {                                                                        \
            const REAL *const left = a + i * lda, *const kept = scale ? scale + i : NULL;                              \
            STRIPS(VECS(COLUMNS), TILE);                                                                               \
        }                                                                                                             \
    }
#define TILE(strip, at) multiply(strip, inner, left, lda, b + (at), c + i * LD + (at), LD, kept)
MULTIPLY(multiply_c, CHUNK)
MULTIPLY(multiply_v, VALUE)
#undef TILE

/* One head's part of the convolved and activated projections at one position, into a padded row. */
INLINE void project(int size, const REAL *const *rows, const REAL *taps, int channels, REAL *out) {
    for (int x = 0; x < PADDED(size); x++) out[x] = 0;
    if (TAPS) {
        for (int tap = 0; tap < TAPS; tap++)
            if (rows[tap])
                for (int x = 0; x < size; x++) out[x] += rows[tap][x] * taps[tap * channels + x];
    } else
        for (int x = 0; x < size; x++) out[x] = rows[0][x];
    for (int j = 0; j < VECS(size); j++) {
        const vec y = load(out + j * LANES);
        store(out + j * LANES, y * sigmoid(y));
    }
}

/* Comba between its two matrix products, of sequences that lie one behind the other: sequence i has the rows offsets[i]
 * to offsets[i + 1] of out (., heads VALUE), and owned[i] to owned[i + 1] of projected (., width). Before its first row
 * come tail (TAPS - 1, channels) and state (heads, KEY, VALUE), or nothing if they are NULL.
 * Or, unless starts is NULL, it begins at row starts[i] of around (., width), which has the rows before and after those that
 * it owns, and with state number which[i].
 * taps (TAPS, channels); rate = exp(A_log), step = dt_bias, to_p = sigmoid(decay) and skip = D to_p, one for a head; weight
 * (VALUE) of the norm. */
void comba(int sequences, const int *offsets, const int *owned, const int *starts, const int *which, int heads, int width,
           const REAL *projected, const REAL *around, const REAL *tail, const REAL *taps, const REAL *state,
           const REAL *rate, const REAL *step, const REAL *to_p, const REAL *skip, const REAL *weight, REAL epsilon,
           REAL *out) {
    for (int sequence = 0; sequence < sequences; sequence++)
        for (int head = 0; head < heads; head++) {
            SCRATCH(q, CHUNK, KEY);
            SCRATCH(k, CHUNK, KEY);
            SCRATCH(v, CHUNK, VALUE);
            SCRATCH(k_t, KEY, CHUNK);
            SCRATCH(system, CHUNK, CHUNK);
            SCRATCH(read, CHUNK, CHUNK);
            SCRATCH(from_k, CHUNK, VALUE);
            SCRATCH(o, CHUNK, VALUE);
            REAL s[(KEY + ROWS - 1) / ROWS * ROWS][PADDED(VALUE)] __attribute__((aligned(64)));
            REAL kt_fade[(KEY + ROWS - 1) / ROWS * ROWS][PADDED(CHUNK)] __attribute__((aligned(64)));
            const int at_q = head * KEY, at_k = heads * KEY + head * KEY, at_v = 2 * heads * KEY + head * VALUE;
            const int at_gate = heads * (2 * KEY + VALUE) + head * VALUE, at_a = heads * 2 * (KEY + VALUE) + head;
            const int channels = heads * (2 * KEY + VALUE); /* of the tail */
            const int length = offsets[sequence + 1] - offsets[sequence];
            const int own = owned[sequence + 1] - owned[sequence];
            const int start = starts ? starts[sequence] : 0; /* row of `around` */
            const size_t past = which ? which[sequence] : 0;
            int live = state != NULL; /* whether the state is anything but zero */
            memset(s, 0, sizeof s);
            memset(kt_fade, 0, sizeof kt_fade);
            if (live)
                for (int x = 0; x < KEY; x++)
                    memcpy(s[x], state + ((past * heads + head) * KEY + x) * VALUE, VALUE * sizeof(REAL));

            for (int first = 0; first < length; first += CHUNK) {
                const int size = length - first < CHUNK ? length - first : CHUNK;
                const int rows = (size + ROWS - 1) / ROWS * ROWS;
                const REAL *row[CHUNK + (TAPS ? TAPS : 1)]; /* of the projections, from TAPS - 1 before the chunk on */
                const int back = TAPS ? TAPS - 1 : 0;
                for (int t = -back; t < size; t++) {
                    const int p = first + t;
                    row[t + back] = p >= 0 && p < own        ? projected + ((size_t)owned[sequence] + p) * width
                                  : around && start + p >= 0 ? around + (size_t)(start + p) * width
                                  : tail                     ? tail + (size_t)(back + p) * channels
                                                             : NULL;
                }
                double total[CHUNK], before = 0;
                REAL beta[CHUNK], ratio[CHUNK], at_t[CHUNK], at_before[CHUNK];
                for (int t = 0; t < rows; t++) {
                    if (t >= size) {
                        memset(q[t], 0, sizeof q[t]), memset(k[t], 0, sizeof k[t]), memset(v[t], 0, sizeof v[t]);
                        beta[t] = ratio[t] = at_t[t] = at_before[t] = 0, total[t] = before;
                        continue;
                    }
                    const REAL *at[TAPS ? TAPS : 1];
                    const int used = TAPS ? TAPS : 1;
#define PART(size_, offset, into)                                                              \
    for (int tap = 0; tap < used; tap++) at[tap] = row[t + tap] ? row[t + tap] + (offset) : NULL; \
    project(size_, at, taps + (offset), channels, into)
                    PART(KEY, at_q, q[t]);
                    PART(KEY, at_k, k[t]);
                    PART(VALUE, at_v, v[t]);
                    vec qq = splat(0), kk = splat(0);
                    for (int j = 0; j < VECS(KEY); j++) {
                        const vec y = load(k[t] + j * LANES);
                        const vec z = load(q[t] + j * LANES) - splat(skip[head]) * y;
                        store(q[t] + j * LANES, z);
                        qq += z * z, kk += y * y;
                    }
                    const REAL square = sum(kk);
                    const REAL to_k = 1 / (REAL)sqrt(square + (REAL)1e-6);
                    const REAL to_q = 1 / ((REAL)sqrt(sum(qq) + (REAL)1e-6) * (REAL)sqrt(KEY));
                    ratio[t] = to_p[head] / (REAL)sqrt(to_p[head] * to_p[head] * square + (REAL)1e-6) / to_k;
                    for (int j = 0; j < VECS(KEY); j++) {
                        store(q[t] + j * LANES, load(q[t] + j * LANES) * splat(to_q));
                        store(k[t] + j * LANES, load(k[t] + j * LANES) * splat(to_k));
                    }
                    const double a = row[t + back][at_a] + step[head];
                    const double g = -(double)rate[head] * (a > 20 ? a : log1p(exp(a)));
                    at_before[t] = (REAL)exp(before < FLOOR ? FLOOR : before);
                    total[t] = before += (REAL)g;
                    at_t[t] = (REAL)exp(before < FLOOR ? FLOOR : before);
                    beta[t] = 1 / (1 + (REAL)exp(-row[t + back][at_a + heads]));
                }
                for (int x = 0; x < KEY; x++) {
                    for (int t = 0; t < rows; t++) k_t[x][t] = k[t][x];
                    for (int t = rows; t < PADDED(CHUNK); t++) k_t[x][t] = 0;
                }
                multiply_c(rows, KEY, k[0], PADDED(KEY), k_t[0], system[0], NULL);
                multiply_c(rows, KEY, q[0], PADDED(KEY), k_t[0], read[0], NULL);
                REAL decay[PADDED(CHUNK)]; /* exp(G_t - G_s) for s <= t; of the row before, exp(G_{t-1} - G_s) for s < t */
                for (int j = 0; j < PADDED(CHUNK); j++) decay[j] = 0;
                for (int t = 0; t < rows; t++) {
                    for (int j = 0; j < VECS(CHUNK); j++)
                        store(system[t] + j * LANES, load(system[t] + j * LANES) * load(decay + j * LANES) *
                                                         splat(beta[t] * ratio[t]));
                    for (int other = 0; other <= t; other++) {
                        const REAL log = (REAL)(total[t] - total[other]);
                        decay[other] = log < (REAL)FLOOR ? (REAL)FLOOR : log;
                    }
                    for (int j = 0; j <= t / LANES; j++) store(decay + j * LANES, vexp(load(decay + j * LANES)));
                    for (int other = t + 1; other < PADDED(CHUNK); other++) decay[other] = 0;
                    for (int j = 0; j < VECS(CHUNK); j++)
                        store(read[t] + j * LANES, load(read[t] + j * LANES) * load(decay + j * LANES));
                }
                if (live) {
                    multiply_v(rows, KEY, k[0], PADDED(KEY), s[0], from_k[0], NULL);
                    multiply_v(rows, KEY, q[0], PADDED(KEY), s[0], o[0], NULL);
                }
                for (int t = 0; t < rows; t++)
                    for (int j = 0; j < VECS(VALUE); j++) {
                        vec y = load(v[t] + j * LANES);
                        if (live) y -= splat(ratio[t] * at_before[t]) * load(from_k[t] + j * LANES);
                        store(v[t] + j * LANES, splat(beta[t]) * y);
                    }
                /* U by forward substitution, in the place of V */
                for (int i = 0; i < rows; i += ROWS) {
#define TILE(strip, at) substitute(strip, i, system[i], PADDED(CHUNK), v[0] + (at), v[i] + (at), PADDED(VALUE))
                    STRIPS(VECS(VALUE), TILE);
#undef TILE
                }
                if (live)
                    for (int i = 0; i < rows; i += ROWS)
                        multiply_v(ROWS, i + ROWS, read[i], PADDED(CHUNK), v[0], o[i], at_t + i);
                else
                    for (int i = 0; i < rows; i += ROWS)
                        multiply_v(ROWS, i + ROWS, read[i], PADDED(CHUNK), v[0], o[i], NULL);
                if (first + size < length) {
                    REAL fade[PADDED(CHUNK)], keep[ROWS];
                    for (int t = 0; t < PADDED(CHUNK); t++) {
                        const double log = t < rows ? total[rows - 1] - total[t] : 0;
                        fade[t] = (REAL)exp(log < FLOOR ? FLOOR : log);
                    }
                    for (int r = 0; r < ROWS; r++) keep[r] = at_t[rows - 1];
                    for (int x = 0; x < KEY; x++)
                        for (int j = 0; j < VECS(CHUNK); j++)
                            store(kt_fade[x] + j * LANES, load(k_t[x] + j * LANES) * load(fade + j * LANES));
                    for (int x = 0; x < KEY; x += ROWS)
                        multiply_v(ROWS, rows, kt_fade[x], PADDED(CHUNK), v[0], s[x], keep);
                    for (int x = 0; x < KEY; x++)
                        for (int j = 0; j < VECS(VALUE); j++) store(s[x] + j * LANES, flush(load(s[x] + j * LANES)));
                    live = 1;
                }
                for (int t = 0; t < size; t++) {
                    vec oo = splat(0);
                    for (int j = 0; j < VECS(VALUE); j++) oo += load(o[t] + j * LANES) * load(o[t] + j * LANES);
                    const REAL rms = 1 / (REAL)sqrt(sum(oo) / VALUE + epsilon);
                    REAL gate[PADDED(VALUE)] __attribute__((aligned(64)));
                    for (int x = 0; x < PADDED(VALUE); x++) gate[x] = 0;
                    for (int x = 0; x < VALUE; x++) gate[x] = row[t + back][at_gate + x];
                    for (int j = 0; j < VECS(VALUE); j++)
                        store(gate + j * LANES, sigmoid(load(gate + j * LANES)) * load(o[t] + j * LANES) * splat(rms));
                    REAL *to = out + (((size_t)offsets[sequence] + first + t) * heads + head) * VALUE;
                    for (int x = 0; x < VALUE; x++) to[x] = gate[x] * weight[x];
                }
            }
        }
}

/* The states (places, heads, KEY, VALUE) before positions of a sequence whose recurrence has been traced in chunks of `size`,
 * which is at most CHUNK:
 * kq (chunks, heads, 2 size, KEY), fade (chunks, heads, size, size), keep (chunks, heads, size), states (chunks, heads, KEY,
 * VALUE) before each chunk, and its updates (chunks, heads, size, VALUE); see Chunks in recurrence.py. */
void states_at(int places, const int *positions, int chunks, int size, int heads, const REAL *kq, const REAL *fade,
               const REAL *keep, const REAL *states, const REAL *updates, REAL *out) {
    for (int place = 0; place < places; place++)
        for (int head = 0; head < heads; head++) {
            const int last = positions[place] / size, chunk = last < chunks ? last : chunks - 1;
            const int inside = positions[place] - chunk * size; /* positions of the chunk that have been */
            const size_t at = (size_t)chunk * heads + head;
            const REAL *from = states + at * KEY * VALUE;
            REAL *to = out + ((size_t)place * heads + head) * KEY * VALUE;
            if (!inside) {
                memcpy(to, from, (size_t)KEY * VALUE * sizeof(REAL));
                continue;
            }
            const REAL kept = keep[at * size + inside - 1], *left = fade + (at * size + inside - 1) * size;
            SCRATCH(u, CHUNK, VALUE); /* what is left of the updates */
            for (int t = 0; t < inside; t++)
                for (int y = 0; y < PADDED(VALUE); y++)
                    u[t][y] = y < VALUE ? left[t] * updates[(at * size + t) * VALUE + y] : 0;
            for (int x = 0; x < KEY; x++) {
                REAL s[PADDED(VALUE)] __attribute__((aligned(64)));
                for (int y = 0; y < PADDED(VALUE); y++) s[y] = y < VALUE ? kept * from[(size_t)x * VALUE + y] : 0;
                for (int t = 0; t < inside; t++)
                    for (int j = 0; j < VECS(VALUE); j++)
                        store(s + j * LANES, load(s + j * LANES) + splat(kq[(at * 2 * size + t) * KEY + x]) *
                                                                       load(u[t] + j * LANES));
                for (int j = 0; j < VECS(VALUE); j++) store(s + j * LANES, flush(load(s + j * LANES)));
                memcpy(to + (size_t)x * VALUE, s, VALUE * sizeof(REAL));
            }
        }
}

/* Rotary embedding of one head at one position, with the partners of a pair side by side, as keys are kept; times scale. */
INLINE void rotate(const REAL *x, const REAL *cosine, const REAL *sine, REAL scale, REAL *out) {
    for (int i = 0; i < HEAD / 2; i++) {
        out[2 * i] = (x[i] * cosine[i] - x[i + HEAD / 2] * sine[i]) * scale;
        out[2 * i + 1] = (x[i + HEAD / 2] * cosine[i] + x[i] * sine[i]) * scale;
    }
}

/* Attention between its two matrix products: projections (., (heads + 2 kv_heads) HEAD) to out (., heads HEAD), of sequences
 * that lie one behind the other, in the rows offsets[i] to offsets[i + 1]. Sequence i begins at position starts[i]. The
 * positions before it have keys and values (kv_heads, stride / HEAD, HEAD), already rotated, the same for all sequences;
 * cosine and sine (., HEAD / 2) are those of the positions from `table` on. Returns whether there was memory for it. */
int attention(int sequences, const int *offsets, const int *starts, int heads, int kv_heads, int window,
              const REAL *projections, const REAL *past_keys, const REAL *past_values, int stride, const REAL *cosine,
              const REAL *sine, int table, REAL *out) {
    const int width = (heads + 2 * kv_heads) * HEAD;
    int most = 0;
    bits lanes;
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane;
    for (int i = 0; i < sequences; i++) {
        const int reach = starts[i] < window - 1 ? starts[i] : window - 1, keys = reach + offsets[i + 1] - offsets[i];
        if (keys > most) most = keys;
    }
    const size_t need = ((size_t)PADDED(most + KEYS * LANES) * (HEAD + PADDED(HEAD) + ROWS) + LANES) * sizeof(REAL);
    REAL *scratch = aligned_alloc(64, (need + 63) / 64 * 64);
    if (!scratch) return 0;
    for (int sequence = 0; sequence < sequences; sequence++)
        for (int head = 0; head < heads; head++) {
            const int length = offsets[sequence + 1] - offsets[sequence], start = starts[sequence];
            const int reach = start < window - 1 ? start : window - 1;
            const int keys = reach + length, padded = PADDED(keys + KEYS * LANES);
            const REAL *const turn = cosine + (size_t)(start - table) * (HEAD / 2);
            const REAL *const across = sine + (size_t)(start - table) * (HEAD / 2);
            REAL *k_t = scratch, *v = k_t + (size_t)padded * HEAD, *weights = v + (size_t)padded * PADDED(HEAD);
            const REAL *own = projections + (size_t)offsets[sequence] * width;
            const int kv = head / (heads / kv_heads);
            memset(k_t, 0, (size_t)padded * (HEAD + PADDED(HEAD)) * sizeof(REAL));
            for (int j = 0; j < keys; j++) {
                REAL key[HEAD];
                const REAL *value;
                if (j < reach) {
                    const size_t at = (size_t)kv * stride + (size_t)(start - reach + j) * HEAD;
                    memcpy(key, past_keys + at, sizeof key);
                    value = past_values + at;
                } else {
                    const REAL *row = own + (size_t)(j - reach) * width;
                    rotate(row + (heads + kv) * HEAD, turn + (j - reach) * (HEAD / 2),
                           across + (j - reach) * (HEAD / 2), 1, key);
                    value = row + (heads + kv_heads + kv) * HEAD;
                }
                for (int x = 0; x < HEAD; x++) k_t[(size_t)x * padded + j] = key[x];
                memcpy(v + (size_t)j * PADDED(HEAD), value, HEAD * sizeof(REAL));
            }
            for (int i = 0; i < length; i += ROWS) {
                REAL q[ROWS][HEAD];
                const int rows = length - i < ROWS ? length - i : ROWS;
                memset(q, 0, sizeof q);
                for (int r = 0; r < rows; r++) {
                    rotate(own + (size_t)(i + r) * width + head * HEAD, turn + (i + r) * (HEAD / 2),
                           across + (i + r) * (HEAD / 2), 1 / (REAL)sqrt(HEAD), q[r]);
                }
                const int oldest = i + reach - window + 1 > 0 ? i + reach - window + 1 : 0;
                const int from = oldest / LANES * LANES, to = i + rows + reach; /* keys that the tile can see */
                vec highest[ROWS], total[ROWS];
                UNROLL for (int r = 0; r < ROWS; r++) highest[r] = splat((REAL)-INFINITY), total[r] = splat(0);
                for (int j = from; j < to; j += KEYS * LANES) {
                    vec score[ROWS][KEYS];
                    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int n = 0; n < KEYS; n++) score[r][n] = splat(0);
                    for (int x = 0; x < HEAD; x++) {
                        vec key[KEYS];
                        UNROLL for (int n = 0; n < KEYS; n++) key[n] = load(k_t + (size_t)x * padded + j + n * LANES);
                        UNROLL for (int r = 0; r < ROWS; r++) {
                            const vec query = splat(q[r][x]);
                            UNROLL for (int n = 0; n < KEYS; n++) score[r][n] += query * key[n];
                        }
                    }
                    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int n = 0; n < KEYS; n++) {
                        const bits place = lanes + (j + n * LANES), last = (bits){0} + (i + r + reach);
                        const bits hidden = (place > last) | (place <= last - window);
                        const vec seen = (vec)((hidden & (bits)splat((REAL)-INFINITY)) | (~hidden & (bits)score[r][n]));
                        store(weights + r * padded + j + n * LANES, seen);
                        const bits higher = seen > highest[r];
                        highest[r] = (vec)((higher & (bits)seen) | (~higher & (bits)highest[r]));
                    }
                }
                REAL top[ROWS], sums[ROWS];
                for (int r = 0; r < ROWS; r++) {
                    top[r] = highest[r][0];
                    for (int lane = 1; lane < LANES; lane++)
                        if (highest[r][lane] > top[r]) top[r] = highest[r][lane];
                }
                vec mixed[ROWS][VECS(HEAD)];
                UNROLL for (int r = 0; r < ROWS; r++)
                    UNROLL for (int h = 0; h < VECS(HEAD); h++) mixed[r][h] = splat(0);
                for (int j = from; j < to; j += LANES)
                    UNROLL for (int r = 0; r < ROWS; r++) {
                        const vec score = load(weights + r * padded + j);
                        vec weight = vexp(score - splat(top[r]));
                        weight = (vec)((bits)weight & (score != splat((REAL)-INFINITY))); /* NaN stays */
                        total[r] += weight;
                        store(weights + r * padded + j, weight);
                    }
                for (int j = from; j < to; j++)
                    UNROLL for (int h = 0; h < VECS(HEAD); h++) {
                        const vec value = load(v + (size_t)j * PADDED(HEAD) + h * LANES);
                        UNROLL for (int r = 0; r < ROWS; r++) mixed[r][h] += splat(weights[r * padded + j]) * value;
                    }
                for (int r = 0; r < rows; r++) {
                    REAL row[PADDED(HEAD)];
                    sums[r] = sum(total[r]);
                    for (int h = 0; h < VECS(HEAD); h++) store(row + h * LANES, mixed[r][h] / splat(sums[r]));
                    memcpy(out + (((size_t)offsets[sequence] + i + r) * heads + head) * HEAD, row,
                           HEAD * sizeof(REAL));
                }
            }
        }
    free(scratch);
    return 1;
}

/* The bridge's dilated depthwise convolutions of x (sequences, length, width), for dilations 1, 2, 4 and so on, side by
 * side in out (sequences, length, dilations width). taps (dilations, REACH, width); positions outside of x are zero. */
void dilated(int sequences, int length, int width, int dilations, const REAL *x, const REAL *taps, REAL *out) {
    for (int sequence = 0; sequence < sequences; sequence++)
        for (int d = 0; d < dilations; d++) {
            const REAL *in = x + (size_t)sequence * length * width, *tap = taps + (size_t)d * REACH * width;
            REAL *to = out + ((size_t)sequence * length * dilations + d) * width;
            const int edge = (REACH / 2) << d, step = width << d;
            for (int c = 0; c + LANES <= width; c += LANES) {
                vec w[REACH];
                UNROLL for (int i = 0; i < REACH; i++) w[i] = load(tap + i * width + c);
                for (int t = 0; t < length; t++) {
                    const REAL *at = in + (size_t)t * width + c;
                    vec total = splat(0);
                    if (t >= edge && t + edge < length)
                        UNROLL for (int i = 0; i < REACH; i++) total += load(at + (i - REACH / 2) * step) * w[i];
                    else
                        for (int i = 0; i < REACH; i++) {
                            const int p = t + ((i - REACH / 2) << d);
                            if (p >= 0 && p < length) total += load(at + (i - REACH / 2) * step) * load(tap + i * width + c);
                        }
                    store(to + (size_t)t * dilations * width + c, total);
                }
            }
            for (int c = width / LANES * LANES; c < width; c++)
                for (int t = 0; t < length; t++) {
                    REAL total = 0;
                    for (int i = 0; i < REACH; i++) {
                        const int p = t + ((i - REACH / 2) << d);
                        if (p >= 0 && p < length) total += in[(size_t)p * width + c] * tap[i * width + c];
                    }
                    to[(size_t)t * dilations * width + c] = total;
                }
        }
}

/* silu(gate) up, from rows (positions, 2 width) that hold both, to out (positions, width). */
void gated(long positions, int width, const REAL *rows, REAL *out) {
    for (long t = 0; t < positions; t++) {
        const REAL *gate = rows + (size_t)t * 2 * width, *up = gate + width;
        REAL *to = out + (size_t)t * width;
        for (int c = 0; c < width; c += LANES) /* the width is a multiple of 256 */
            store(to + c, load(gate + c) * sigmoid(load(gate + c)) * load(up + c));
    }
}

/* scale x / rms(x) weight, of rows x (positions, width). */
void rms_norm(long positions, int width, const REAL *x, const REAL *weight, REAL epsilon, REAL scale, REAL *out) {
    for (long t = 0; t < positions; t++) {
        const REAL *row = x + (size_t)t * width;
        vec squares = splat(0);
        REAL square = 0;
        int c = 0;
        for (; c + LANES <= width; c += LANES) squares += load(row + c) * load(row + c);
        for (; c < width; c++) square += row[c] * row[c];
        const REAL rms = scale / (REAL)sqrt((sum(squares) + square) / width + epsilon);
        for (c = 0; c < width; c++) out[(size_t)t * width + c] = row[c] * rms * weight[c];
    }
}

/* LayerNorm of rows of width numbers, in place; weight and bias NULL for none. */
INLINE void layer_norm(int width, REAL *row, const REAL *weight, const REAL *bias, REAL epsilon) {
    vec totals = splat(0), squares = splat(0);
    REAL total = 0, square = 0;
    int c = 0;
    for (; c + LANES <= width; c += LANES) totals += load(row + c);
    for (; c < width; c++) total += row[c];
    const REAL mean = (sum(totals) + total) / width;
    for (c = 0; c + LANES <= width; c += LANES) squares += (load(row + c) - splat(mean)) * (load(row + c) - splat(mean));
    for (; c < width; c++) square += (row[c] - mean) * (row[c] - mean);
    const REAL scale = 1 / (REAL)sqrt((sum(squares) + square) / width + epsilon);
    if (weight)
        for (c = 0; c < width; c++) row[c] = (row[c] - mean) * scale * weight[c] + bias[c];
    else
        for (c = 0; c < width; c++) row[c] = (row[c] - mean) * scale;
}

/* LayerNorm of m + sigmoid(logits / temperature) (t - m), all (positions, width). */
void gate_norm(long positions, int width, const REAL *m, const REAL *t, const REAL *logits, REAL temperature,
               const REAL *weight, const REAL *bias, REAL epsilon, REAL *out) {
    for (long i = 0; i < positions; i++) {
        const size_t at = (size_t)i * width;
        int c = 0;
        for (; c + LANES <= width; c += LANES)
            store(out + at + c, load(m + at + c) + sigmoid(load(logits + at + c) / splat(temperature)) *
                                                       (load(t + at + c) - load(m + at + c)));
        for (; c < width; c++)
            out[at + c] = m[at + c] + (t[at + c] - m[at + c]) / (1 + (REAL)exp(-logits[at + c] / temperature));
        layer_norm(width, out + at, weight, bias, epsilon);
    }
}

/* LayerNorm of x + sigmoid(logits) (message + whole), where a row of whole serves the length positions of a sequence, and
 * rows of logits are stride numbers apart. */
void receive(int sequences, int length, int width, const REAL *x, const REAL *logits, int stride, const REAL *message,
             const REAL *whole, const REAL *weight, const REAL *bias, REAL epsilon, REAL *out) {
    for (long i = 0; i < (long)sequences * length; i++) {
        const size_t at = (size_t)i * width;
        const REAL *logit = logits + (size_t)i * stride, *same = whole + (size_t)(i / length) * width;
        int c = 0;
        for (; c + LANES <= width; c += LANES)
            store(out + at + c, load(x + at + c) + sigmoid(load(logit + c)) * (load(message + at + c) + load(same + c)));
        for (; c < width; c++) out[at + c] = x[at + c] + (message[at + c] + same[c]) / (1 + (REAL)exp(-logit[c]));
        layer_norm(width, out + at, weight, bias, epsilon);
    }
}
