/* Attention between its two matrix products; attention.py is the reference. */
#include "vector.h"

#define KEYS (BYTES == 64 ? 1 : 2) /* vectors of keys that are scored at once */
#define SMALL 256 /* size of a head up to which a key is on the stack, and so in registers as far as they go */

typedef struct {
    int heads, kv_heads, window, width;
    const REAL *past_keys, *past_values;
    int stride; /* from one head of the past to the next */
} Layer;

typedef struct {
    const REAL *rows, *cosine, *sine; /* from its first position on */
    int start, length;
    int reach;  /* positions before the first that it sees */
    int keys;   /* positions that it sees */
    int padded; /* the same in whole vectors, with room to read on */
} Sequence;

/* For one head of one sequence. */
typedef struct {
    REAL *keys;    /* (HEAD, padded) */
    REAL *values;  /* (padded, HEAD in whole vectors) */
    REAL *weights; /* (ROWS, padded) of a tile of queries */
    REAL *mixed;   /* (ROWS, HEAD in whole vectors) its outputs */
    REAL *queries; /* (ROWS, HEAD) */
    REAL *key;     /* (HEAD) */
} Room;

INLINE int padded(int keys) { return PADDED(keys + KEYS * LANES); }

/* Numbers that a room for so many keys has. */
static size_t numbers(int keys) {
    return (size_t)padded(keys) * (HEAD + PADDED(HEAD) + ROWS) + ROWS * (PADDED(HEAD) + HEAD) + HEAD + LANES;
}

static Room divided(REAL *memory, int padded) {
    Room room;
    room.keys = memory;
    room.values = room.keys + (size_t)padded * HEAD;
    room.weights = room.values + (size_t)padded * PADDED(HEAD);
    room.mixed = room.weights + (size_t)padded * ROWS;
    room.queries = room.mixed + ROWS * PADDED(HEAD);
    room.key = room.queries + ROWS * HEAD;
    return room;
}

/* Rotary embedding of one head at one position, with the partners of a pair side by side, as keys are kept; times scale. */
INLINE void rotate(const REAL *x, const REAL *cosine, const REAL *sine, REAL scale, REAL *restrict out) {
    for (int i = 0; i < HEAD / 2; i++) {
        out[2 * i] = (x[i] * cosine[i] - x[i + HEAD / 2] * sine[i]) * scale;
        out[2 * i + 1] = (x[i + HEAD / 2] * cosine[i] + x[i] * sine[i]) * scale;
    }
}

/* All keys and values that one head of a sequence sees. */
static void load_keys(const Layer *layer, const Sequence *sequence, int kv, const Room *room) {
    const int padded = sequence->padded, reach = sequence->reach;
    memset(room->keys, 0, (size_t)padded * (HEAD + PADDED(HEAD)) * sizeof(REAL)); /* and the values */
    for (int j = 0; j < sequence->keys; j++) {
        const REAL *value;
        REAL small[HEAD <= SMALL ? HEAD : 1], *const key = HEAD <= SMALL ? small : room->key;
        if (j < reach) {
            const size_t at = (size_t)kv * layer->stride + (size_t)(sequence->start - reach + j) * HEAD;
            memcpy(key, layer->past_keys + at, HEAD * sizeof(REAL));
            value = layer->past_values + at;
        } else {
            const int own = j - reach;
            const REAL *row = sequence->rows + (size_t)own * layer->width;
            rotate(row + (layer->heads + kv) * HEAD, sequence->cosine + (size_t)own * (HEAD / 2),
                   sequence->sine + (size_t)own * (HEAD / 2), 1, key);
            value = row + (layer->heads + layer->kv_heads + kv) * HEAD;
        }
        for (int x = 0; x < HEAD; x++) room->keys[(size_t)x * padded + j] = key[x];
        memcpy(room->values + (size_t)j * PADDED(HEAD), value, HEAD * sizeof(REAL));
    }
}

/* A tile of `rows` queries, from position i on; zeros behind them. */
static void load_queries(const Layer *layer, const Sequence *sequence, int head, int i, int rows, const Room *room) {
    memset(room->queries, 0, ROWS * HEAD * sizeof(REAL));
    for (int r = 0; r < rows; r++)
        rotate(sequence->rows + (size_t)(i + r) * layer->width + head * HEAD,
               sequence->cosine + (size_t)(i + r) * (HEAD / 2), sequence->sine + (size_t)(i + r) * (HEAD / 2),
               1 / (REAL)sqrt(HEAD), room->queries + r * HEAD);
}

/* Scores of keys `from` to `to` for a tile of queries, the first of which is key number `first`, into the place of the
 * weights; and the highest of each. */
INLINE void score(const REAL *keys, const REAL *queries, REAL *weights, int padded, int window, int first, int from,
                  int to, REAL *highest) {
    bits lanes;
    vec best[ROWS];
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane;
    UNROLL for (int r = 0; r < ROWS; r++) best[r] = splat((REAL)-INFINITY);
    for (int j = from; j < to; j += KEYS * LANES) {
        vec score[ROWS][KEYS];
        UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int n = 0; n < KEYS; n++) score[r][n] = splat(0);
        for (int x = 0; x < HEAD; x++) {
            vec key[KEYS];
            UNROLL for (int n = 0; n < KEYS; n++) key[n] = load(keys + (size_t)x * padded + j + n * LANES);
            UNROLL for (int r = 0; r < ROWS; r++) {
                const vec query = splat(queries[r * HEAD + x]);
                UNROLL for (int n = 0; n < KEYS; n++) score[r][n] += query * key[n];
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int n = 0; n < KEYS; n++) {
            const bits place = lanes + (j + n * LANES), last = (bits){0} + (first + r);
            const bits hidden = (place > last) | (place <= last - window);
            const vec seen = pick(hidden, splat((REAL)-INFINITY), score[r][n]);
            store(weights + r * padded + j + n * LANES, seen);
            best[r] = pick(seen > best[r], seen, best[r]);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        REAL top = best[r][0];
        for (int lane = 1; lane < LANES; lane++)
            if (best[r][lane] > top) top = best[r][lane];
        highest[r] = top;
    }
}

/* Scores to weights exp(score - highest), and their sums. */
INLINE void weigh(REAL *weights, int padded, int from, int to, const REAL *highest, REAL *sums) {
    vec total[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) total[r] = splat(0);
    for (int j = from; j < to; j += LANES)
        UNROLL for (int r = 0; r < ROWS; r++) {
            const vec score = load(weights + r * padded + j);
            vec weight = vexp(score - splat(highest[r]));
            weight = (vec)((bits)weight & (score != splat((REAL)-INFINITY))); /* NaN stays */
            total[r] += weight;
            store(weights + r * padded + j, weight);
        }
    for (int r = 0; r < ROWS; r++) sums[r] = sum(total[r]);
}

/* Attention of a tile of queries, from position i of the sequence on, into rows that are `stride` numbers apart. */
static void attend(const Layer *layer, const Sequence *sequence, int head, int i, const Room *room, REAL *out,
                   size_t stride) {
    const int rows = sequence->length - i < ROWS ? sequence->length - i : ROWS, first = i + sequence->reach;
    const int oldest = first - layer->window + 1 > 0 ? first - layer->window + 1 : 0;
    const int from = oldest / LANES * LANES, to = first + rows; /* keys that the tile can see */
    const int padded = sequence->padded;
    REAL highest[ROWS], sums[ROWS];
    load_queries(layer, sequence, head, i, rows, room);
    score(room->keys, room->queries, room->weights, padded, layer->window, first, from, to, highest);
    weigh(room->weights, padded, from, to, highest, sums);
    multiply(HEAD, ROWS, to - from, room->weights + from, padded, room->values + (size_t)from * PADDED(HEAD),
             room->mixed, NULL);
    for (int r = 0; r < rows; r++, out += stride) {
        REAL *const mixed = room->mixed + r * PADDED(HEAD);
        for (int j = 0; j < VECS(HEAD); j++) store(mixed + j * LANES, load(mixed + j * LANES) / splat(sums[r]));
        memcpy(out, mixed, HEAD * sizeof(REAL));
    }
}

/* Attention between its two matrix products: projections (., (heads + 2 kv_heads) HEAD) to out (., heads HEAD), of sequences
 * that lie one behind the other, in the rows offsets[i] to offsets[i + 1]. Sequence i begins at position starts[i]. The
 * positions before it have keys and values (kv_heads, stride / HEAD, HEAD), already rotated, the same for all sequences;
 * cosine and sine (., HEAD / 2) are those of the positions from `table` on. Returns whether there was memory for it. */
int attention(int sequences, const int *offsets, const int *starts, int heads, int kv_heads, int window,
              const REAL *projections, const REAL *past_keys, const REAL *past_values, int stride, const REAL *cosine,
              const REAL *sine, int table, REAL *out) {
    const Layer layer = {heads, kv_heads, window, (heads + 2 * kv_heads) * HEAD, past_keys, past_values, stride};
    int most = 0;
    for (int i = 0; i < sequences; i++) {
        const int reach = starts[i] < window - 1 ? starts[i] : window - 1, keys = reach + offsets[i + 1] - offsets[i];
        if (keys > most) most = keys;
    }
    REAL *const memory = ALLOCATE(numbers(most) * sizeof(REAL));
    if (!memory) return 0;
    for (int i = 0; i < sequences; i++)
        for (int head = 0; head < heads; head++) {
            Sequence sequence = {.start = starts[i], .length = offsets[i + 1] - offsets[i]};
            sequence.rows = projections + (size_t)offsets[i] * layer.width;
            sequence.cosine = cosine + (size_t)(starts[i] - table) * (HEAD / 2);
            sequence.sine = sine + (size_t)(starts[i] - table) * (HEAD / 2);
            sequence.reach = starts[i] < window - 1 ? starts[i] : window - 1;
            sequence.keys = sequence.reach + sequence.length;
            sequence.padded = padded(sequence.keys);
            const Room room = divided(memory, sequence.padded);
            load_keys(&layer, &sequence, head / (heads / kv_heads), &room);
            for (int t = 0; t < sequence.length; t += ROWS)
                attend(&layer, &sequence, head, t, &room, out + (((size_t)offsets[i] + t) * heads + head) * HEAD,
                       (size_t)heads * HEAD);
        }
    free(memory);
    return 1;
}
