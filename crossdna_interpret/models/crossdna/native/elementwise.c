/* The bridge's convolutions, gates and norms, each in one sweep through memory; the PyTorch modules that call them are the
 * reference. */
#include "vector.h"

#define REACH 9 /* taps of the bridge's convolutions */

/* One dilated convolution of LANES channels. */
INLINE void convolve(int length, int width, int dilation, const REAL *in, const REAL *taps, REAL *out, size_t stride) {
    const int edge = REACH / 2 * dilation, step = width * dilation;
    vec w[REACH];
    UNROLL for (int i = 0; i < REACH; i++) w[i] = load(taps + i * width);
    for (int t = 0; t < length; t++) {
        const REAL *at = in + (size_t)t * width;
        vec total = splat(0);
        if (t >= edge && t + edge < length)
            UNROLL for (int i = 0; i < REACH; i++) total += load(at + (i - REACH / 2) * step) * w[i];
        else
            for (int i = 0; i < REACH; i++) {
                const int p = t + (i - REACH / 2) * dilation;
                if (p >= 0 && p < length) total += load(at + (i - REACH / 2) * step) * load(taps + i * width);
            }
        store(out + (size_t)t * stride, total);
    }
}

/* The same of one channel. */
INLINE void convolve_one(int length, int width, int dilation, const REAL *in, const REAL *taps, REAL *out,
                         size_t stride) {
    for (int t = 0; t < length; t++) {
        REAL total = 0;
        for (int i = 0; i < REACH; i++) {
            const int p = t + (i - REACH / 2) * dilation;
            if (p >= 0 && p < length) total += in[(size_t)p * width] * taps[i * width];
        }
        out[(size_t)t * stride] = total;
    }
}

/* The bridge's dilated depthwise convolutions of x (sequences, length, width), for dilations 1, 2, 4 and so on, side by
 * side in out (sequences, length, dilations width). taps (dilations, REACH, width); positions outside of x are zero. */
void dilated(int sequences, int length, int width, int dilations, const REAL *x, const REAL *taps, REAL *out) {
    const size_t stride = (size_t)dilations * width;
    for (int sequence = 0; sequence < sequences; sequence++)
        for (int d = 0; d < dilations; d++) {
            const REAL *in = x + (size_t)sequence * length * width, *tap = taps + (size_t)d * REACH * width;
            REAL *to = out + (size_t)sequence * length * stride + (size_t)d * width;
            int c = 0;
            for (; c + LANES <= width; c += LANES) convolve(length, width, 1 << d, in + c, tap + c, to + c, stride);
            for (; c < width; c++) convolve_one(length, width, 1 << d, in + c, tap + c, to + c, stride);
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
