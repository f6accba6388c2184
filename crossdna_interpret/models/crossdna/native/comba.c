/* Comba between its two matrix products, and states inside of its recurrence; comba.py and recurrence.py are the reference.
 *
 * Each (sequence, head) is worked through in chunks of positions, in a few tens of kilobytes, which stay in the cache.
 */
#include "vector.h"

#define CHUNK 32 /* positions of a chunk */
#define READ_BACK (TAPS ? TAPS - 1 : 0) /* positions before a position that its convolution reads */

typedef struct {
    int heads, width, channels; /* channels are the convolved ones of a row of `width` projections */
    const REAL *projected, *around, *tail, *taps, *states, *rate, *step, *to_p, *skip, *weight;
    REAL epsilon;
} Layer;

typedef struct {
    int first, own; /* its own rows of `projected` */
    int start;      /* the row of `around` at which it begins */
} Sequence;

/* One head of one sequence, at one chunk. */
typedef struct {
    MATRIX(state, WHOLE(KEY, ROWS), VALUE); /* before the chunk */
    MATRIX(q, CHUNK, KEY);
    MATRIX(k, CHUNK, KEY);
    MATRIX(v, CHUNK, VALUE); /* and then the updates U, in the same place */
    MATRIX(k_t, KEY, CHUNK);
    MATRIX(kt_fade, WHOLE(KEY, ROWS), CHUNK);
    MATRIX(system, CHUNK, CHUNK);
    MATRIX(read, CHUNK, CHUNK);
    MATRIX(from_k, CHUNK, VALUE);
    MATRIX(o, CHUNK, VALUE);
    MATRIX(gate, 1, VALUE);
    REAL beta[CHUNK], ratio[CHUNK], at_t[CHUNK], at_before[CHUNK];
    double total[CHUNK];                    /* G, the sum of log decays from the chunk's begin on */
    const REAL *row[CHUNK + READ_BACK];     /* of projections, from READ_BACK before the chunk on; NULL where nothing is */
    int size, rows;                         /* positions, and the same rounded up to whole tiles */
    int live;                               /* whether the state is anything but zero */
} Head;

INLINE double decayed(double log) { return exp(log < FLOOR ? FLOOR : log); }

/* The projections at a position of a sequence, or at one before it; NULL if there are none. */
static const REAL *projections_at(const Layer *layer, const Sequence *sequence, int position) {
    if (position >= 0 && position < sequence->own)
        return layer->projected + ((size_t)sequence->first + position) * layer->width;
    if (layer->around && sequence->start + position >= 0)
        return layer->around + (size_t)(sequence->start + position) * layer->width;
    return layer->tail ? layer->tail + (size_t)(READ_BACK + position) * layer->channels : NULL;
}

/* One head's part of the convolved and activated projections at one position, which begins at channel `at`, into a padded
 * row. */
INLINE void project(const int size, const REAL *const *rows, int at, const REAL *taps, int channels,
                    REAL *restrict out) {
    for (int x = 0; x < PADDED(size); x++) out[x] = 0;
    if (TAPS) {
        for (int tap = 0; tap < TAPS; tap++)
            if (rows[tap]) {
                const REAL *const row = rows[tap] + at, *const of_tap = taps + (size_t)tap * channels + at;
                for (int x = 0; x < size; x++) out[x] += row[x] * of_tap[x];
            }
    } else
        for (int x = 0; x < size; x++) out[x] = rows[0][at + x];
    for (int j = 0; j < VECS(size); j++) {
        const vec y = load(out + j * LANES);
        store(out + j * LANES, y * sigmoid(y));
    }
}

/* Corrects and normalizes the query and the key at position t of the chunk; ratio is |p| / |k|, of what corrects. */
INLINE void normalize(REAL *restrict q, REAL *restrict k, REAL skip, REAL to_p, REAL *restrict ratio) {
    vec qq = splat(0), kk = splat(0);
    for (int j = 0; j < VECS(KEY); j++) {
        const vec y = load(k + j * LANES);
        const vec z = load(q + j * LANES) - splat(skip) * y;
        store(q + j * LANES, z);
        qq += z * z, kk += y * y;
    }
    const REAL square = sum(kk);
    const REAL to_k = 1 / (REAL)sqrt(square + (REAL)1e-6);
    const REAL to_q = 1 / ((REAL)sqrt(sum(qq) + (REAL)1e-6) * (REAL)sqrt(KEY));
    *ratio = to_p / (REAL)sqrt(to_p * to_p * square + (REAL)1e-6) / to_k;
    for (int j = 0; j < VECS(KEY); j++) {
        store(q + j * LANES, load(q + j * LANES) * splat(to_q));
        store(k + j * LANES, load(k + j * LANES) * splat(to_k));
    }
}

/* Queries, keys, values, decays and update rates of the chunk that begins at position `first`; zeros behind its end. */
static void load_chunk(const Layer *layer, const Sequence *sequence, int head, int first, Head *restrict h) {
    const int heads = layer->heads, channels = layer->channels, size = h->size, rows = h->rows;
    const int at_q = head * KEY, at_k = heads * KEY + head * KEY, at_v = 2 * heads * KEY + head * VALUE;
    const int at_a = heads * 2 * (KEY + VALUE) + head;
    for (int t = -READ_BACK; t < size; t++) h->row[t + READ_BACK] = projections_at(layer, sequence, first + t);
    double before = 0;
    for (int t = 0; t < size; t++) {
        const REAL *const *const row = h->row + t, *const own = row[READ_BACK];
        project(KEY, row, at_q, layer->taps, channels, h->q[t]);
        project(KEY, row, at_k, layer->taps, channels, h->k[t]);
        project(VALUE, row, at_v, layer->taps, channels, h->v[t]);
        normalize(h->q[t], h->k[t], layer->skip[head], layer->to_p[head], &h->ratio[t]);
        const double a = own[at_a] + layer->step[head];
        const double g = -(double)layer->rate[head] * (a > 20 ? a : log1p(exp(a)));
        h->at_before[t] = (REAL)decayed(before);
        h->total[t] = before += (REAL)g;
        h->at_t[t] = (REAL)decayed(before);
        h->beta[t] = 1 / (1 + (REAL)exp(-own[at_a + heads]));
    }
    for (int t = size; t < rows; t++) {
        memset(h->q[t], 0, sizeof h->q[t]), memset(h->k[t], 0, sizeof h->k[t]), memset(h->v[t], 0, sizeof h->v[t]);
        h->beta[t] = h->ratio[t] = h->at_t[t] = h->at_before[t] = 0, h->total[t] = before;
    }
}

/* The triangular system of the updates, and what each output reads of them, both with the decays between positions. */
static void chunk_system(Head *restrict h) {
    const int rows = h->rows;
    for (int x = 0; x < KEY; x++) {
        for (int t = 0; t < rows; t++) h->k_t[x][t] = h->k[t][x];
        for (int t = rows; t < PADDED(CHUNK); t++) h->k_t[x][t] = 0;
    }
    multiply(CHUNK, rows, KEY, h->k[0], PADDED(KEY), h->k_t[0], h->system[0], NULL);
    multiply(CHUNK, rows, KEY, h->q[0], PADDED(KEY), h->k_t[0], h->read[0], NULL);
    REAL decay[PADDED(CHUNK)]; /* exp(G_t - G_s) for s <= t; of the row before, exp(G_{t-1} - G_s) for s < t */
    for (int j = 0; j < PADDED(CHUNK); j++) decay[j] = 0;
    for (int t = 0; t < rows; t++) {
        REAL *const system = h->system[t], *const read = h->read[t];
        const vec rate = splat(h->beta[t] * h->ratio[t]);
        for (int j = 0; j < VECS(CHUNK); j++)
            store(system + j * LANES, load(system + j * LANES) * load(decay + j * LANES) * rate);
        for (int other = 0; other <= t; other++) {
            const REAL log = (REAL)(h->total[t] - h->total[other]);
            decay[other] = log < (REAL)FLOOR ? (REAL)FLOOR : log;
        }
        for (int j = 0; j <= t / LANES; j++) store(decay + j * LANES, vexp(load(decay + j * LANES)));
        for (int other = t + 1; other < PADDED(CHUNK); other++) decay[other] = 0;
        for (int j = 0; j < VECS(CHUNK); j++)
            store(read + j * LANES, load(read + j * LANES) * load(decay + j * LANES));
    }
}

/* One tile of rows of U = V - system U, in the place of V. The rows above it, `above` in number, are solved; they come
 * first, and then the tile's own. */
INLINE void substitute_tile(const int strip, int above, const REAL *system, int lds, const REAL *solved, REAL *v,
                            int ld) {
    vec u[ROWS][STRIP];
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < strip; j++) u[r][j] = load(v + r * ld + j * LANES);
    for (int x = 0; x < above; x++) {
        vec right[STRIP];
        UNROLL for (int j = 0; j < strip; j++) right[j] = load(solved + x * ld + j * LANES);
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

/* The updates U of the chunk by forward substitution, in the place of the values, and what the state adds to outputs. */
static void solve(Head *restrict h) {
    enum { LD = PADDED(VALUE), REST = VECS(VALUE) % STRIP, STRIPS = VECS(VALUE) - REST };
    const int rows = h->rows, live = h->live;
    if (live) {
        multiply(VALUE, rows, KEY, h->k[0], PADDED(KEY), h->state[0], h->from_k[0], NULL);
        multiply(VALUE, rows, KEY, h->q[0], PADDED(KEY), h->state[0], h->o[0], NULL);
    }
    for (int t = 0; t < rows; t++)
        for (int j = 0; j < VECS(VALUE); j++) {
            vec y = load(h->v[t] + j * LANES);
            if (live) y -= splat(h->ratio[t] * h->at_before[t]) * load(h->from_k[t] + j * LANES);
            store(h->v[t] + j * LANES, splat(h->beta[t]) * y);
        }
    for (int i = 0; i < rows; i += ROWS) {
        REAL *const v = h->v[0];
        for (int j = 0; j < STRIPS * LANES; j += STRIP * LANES)
            substitute_tile(STRIP, i, h->system[i], PADDED(CHUNK), v + j, v + i * LD + j, LD);
        if (REST)
            substitute_tile(REST, i, h->system[i], PADDED(CHUNK), v + STRIPS * LANES, v + i * LD + STRIPS * LANES, LD);
    }
}

/* Outputs from the updates, and from the state if that is anything but zero. */
static void read_out(Head *restrict h) {
    if (h->live)
        for (int i = 0; i < h->rows; i += ROWS)
            multiply(VALUE, ROWS, i + ROWS, h->read[i], PADDED(CHUNK), h->v[0], h->o[i], h->at_t + i);
    else
        for (int i = 0; i < h->rows; i += ROWS)
            multiply(VALUE, ROWS, i + ROWS, h->read[i], PADDED(CHUNK), h->v[0], h->o[i], NULL);
}

/* The state behind the chunk, in the place of that before it. */
static void carry_state(Head *restrict h) {
    const int rows = h->rows;
    REAL fade[PADDED(CHUNK)], keep[ROWS];
    for (int t = 0; t < PADDED(CHUNK); t++) fade[t] = (REAL)decayed(t < rows ? h->total[rows - 1] - h->total[t] : 0);
    for (int r = 0; r < ROWS; r++) keep[r] = h->at_t[rows - 1];
    for (int x = 0; x < KEY; x++)
        for (int j = 0; j < VECS(CHUNK); j++)
            store(h->kt_fade[x] + j * LANES, load(h->k_t[x] + j * LANES) * load(fade + j * LANES));
    for (int x = 0; x < KEY; x += ROWS)
        multiply(VALUE, ROWS, rows, h->kt_fade[x], PADDED(CHUNK), h->v[0], h->state[x], keep);
    for (int x = 0; x < KEY; x++)
        for (int j = 0; j < VECS(VALUE); j++)
            store(h->state[x] + j * LANES, flush(load(h->state[x] + j * LANES)));
    h->live = 1;
}

/* The chunk's outputs, normalized and gated, into rows that are `stride` numbers apart. */
static void write_gated(const Layer *layer, int head, REAL *restrict out, size_t stride, Head *restrict h) {
    const int at_gate = layer->channels + head * VALUE;
    REAL *const gate = h->gate[0];
    for (int t = 0; t < h->size; t++, out += stride) {
        const REAL *const row = h->row[t + READ_BACK] + at_gate, *const o = h->o[t];
        vec oo = splat(0);
        for (int j = 0; j < VECS(VALUE); j++) oo += load(o + j * LANES) * load(o + j * LANES);
        const REAL rms = 1 / (REAL)sqrt(sum(oo) / VALUE + layer->epsilon);
        for (int x = VALUE; x < PADDED(VALUE); x++) gate[x] = 0;
        for (int x = 0; x < VALUE; x++) gate[x] = row[x];
        for (int j = 0; j < VECS(VALUE); j++)
            store(gate + j * LANES, sigmoid(load(gate + j * LANES)) * load(o + j * LANES) * splat(rms));
        for (int x = 0; x < VALUE; x++) out[x] = gate[x] * layer->weight[x];
    }
}

/* The state before a sequence; zeros if `state` is NULL. */
static void load_state(const REAL *state, Head *restrict h) {
    h->live = state != NULL;
    memset(h->state, 0, sizeof h->state);
    memset(h->kt_fade, 0, sizeof h->kt_fade);
    if (state)
        for (int x = 0; x < KEY; x++) memcpy(h->state[x], state + (size_t)x * VALUE, VALUE * sizeof(REAL));
}

/* Comba between its two matrix products, of sequences that lie one behind the other: sequence i has the rows offsets[i]
 * to offsets[i + 1] of out (., heads VALUE), and owned[i] to owned[i + 1] of projected (., width). Before its first row
 * come tail (TAPS - 1, channels) and state (heads, KEY, VALUE), or nothing if they are NULL.
 * Or, unless starts is NULL, it begins at row starts[i] of around (., width), which has the rows before and after those that
 * it owns, and with state number which[i].
 * taps (TAPS, channels); rate = exp(A_log), step = dt_bias, to_p = sigmoid(decay) and skip = D to_p, one for a head; weight
 * (VALUE) of the norm. Returns whether there was memory for it. */
int comba(int sequences, const int *offsets, const int *owned, const int *starts, const int *which, int heads, int width,
          const REAL *projected, const REAL *around, const REAL *tail, const REAL *taps, const REAL *state,
          const REAL *rate, const REAL *step, const REAL *to_p, const REAL *skip, const REAL *weight, REAL epsilon,
          REAL *out) {
    const Layer layer = {heads, width, heads * (2 * KEY + VALUE), projected, around, tail, taps, state,
                         rate,  step,  to_p, skip, weight, epsilon};
    Head *const h = ALLOCATE(sizeof(Head));
    if (!h) return 0;
    for (int i = 0; i < sequences; i++)
        for (int head = 0; head < heads; head++) {
            const Sequence sequence = {owned[i], owned[i + 1] - owned[i], starts ? starts[i] : 0};
            const int length = offsets[i + 1] - offsets[i];
            const size_t past = which ? which[i] : 0;
            load_state(state ? state + (past * heads + head) * KEY * VALUE : NULL, h);
            for (int first = 0; first < length; first += CHUNK) {
                h->size = length - first < CHUNK ? length - first : CHUNK;
                h->rows = WHOLE(h->size, ROWS);
                load_chunk(&layer, &sequence, head, first, h);
                chunk_system(h);
                solve(h);
                read_out(h);
                if (first + h->size < length) carry_state(h);
                write_gated(&layer, head, out + (((size_t)offsets[i] + first) * heads + head) * VALUE,
                            (size_t)heads * VALUE, h);
            }
        }
    free(h);
    return 1;
}

typedef struct {
    MATRIX(updates, CHUNK, VALUE); /* what is left of them */
    MATRIX(row, 1, VALUE);
} Rest;

/* One state inside of a chunk: `from`, that before it, and the updates of `inside` positions, each with what is left. */
static void state_inside(int inside, const REAL *from, REAL kept, const REAL *left, const REAL *updates, const REAL *k,
                         REAL *to, Rest *restrict rest) {
    REAL *const row = rest->row[0];
    for (int t = 0; t < inside; t++)
        for (int y = 0; y < PADDED(VALUE); y++)
            rest->updates[t][y] = y < VALUE ? left[t] * updates[(size_t)t * VALUE + y] : 0;
    for (int x = 0; x < KEY; x++) {
        for (int y = 0; y < PADDED(VALUE); y++) row[y] = y < VALUE ? kept * from[(size_t)x * VALUE + y] : 0;
        for (int t = 0; t < inside; t++) {
            const vec key = splat(k[(size_t)t * KEY + x]);
            for (int j = 0; j < VECS(VALUE); j++)
                store(row + j * LANES, load(row + j * LANES) + key * load(rest->updates[t] + j * LANES));
        }
        for (int j = 0; j < VECS(VALUE); j++) store(row + j * LANES, flush(load(row + j * LANES)));
        memcpy(to + (size_t)x * VALUE, row, VALUE * sizeof(REAL));
    }
}

/* The states (places, heads, KEY, VALUE) before positions of a sequence whose recurrence has been traced in chunks of
 * `size`, which is at most CHUNK:
 * kq (chunks, heads, 2 size, KEY), fade (chunks, heads, size, size), keep (chunks, heads, size), states (chunks, heads, KEY,
 * VALUE) before each chunk, and its updates (chunks, heads, size, VALUE); see Chunks in recurrence.py.
 * Returns whether there was memory for it. */
int states_at(int places, const int *positions, int chunks, int size, int heads, const REAL *kq, const REAL *fade,
              const REAL *keep, const REAL *states, const REAL *updates, REAL *out) {
    Rest *const rest = ALLOCATE(sizeof(Rest));
    if (!rest) return 0;
    for (int place = 0; place < places; place++)
        for (int head = 0; head < heads; head++) {
            const int last = positions[place] / size, chunk = last < chunks ? last : chunks - 1;
            const int inside = positions[place] - chunk * size; /* positions of the chunk that have been */
            const size_t at = (size_t)chunk * heads + head;
            const REAL *from = states + at * KEY * VALUE;
            REAL *to = out + ((size_t)place * heads + head) * KEY * VALUE;
            if (inside)
                state_inside(inside, from, keep[at * size + inside - 1], fade + (at * size + inside - 1) * size,
                             updates + at * size * VALUE, kq + at * 2 * size * KEY, to, rest);
            else
                memcpy(to, from, (size_t)KEY * VALUE * sizeof(REAL));
        }
    free(rest);
    return 1;
}
