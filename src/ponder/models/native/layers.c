/* What stands between the matrix products of a layer, forward and backward, each in one pass over its tokens.

   The torch code that says the same is ponder/models/operations.py. Sums over tokens (gradients of norm weights) are
   made per thread and added in the order of threads, so that a number of threads always gives the same bits. */

#include "vectors.h"

/* out (n,) += each of `threads` rows of parts (threads, n), in order. */
static void gather_parts(const float *parts, int64_t threads, int64_t n, float *out) {
    for (int64_t t = 0; t < threads; t++)
        for (int64_t i = 0; i < n; i++) out[i] += parts[t * n + i];
}

/* sum = states + change, all (rows, width), and normed = sum / rms(sum) * weight. No change: sum is not written. */
void norm_forward(const float *states, const elem *change, const float *weight, int64_t rows, int64_t width, float eps,
                  float *sum, elem *normed, float *inverse, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const float *x = states + row * width;
        if (change) {
            for (int64_t i = 0; i < width; i += LANES)
                store(sum + row * width + i, load(x + i) + load_elements(change + row * width + i));
            x = sum + row * width;
        }
        float scale = inverse[row] = inverse_size(x, width, eps);
        for (int64_t i = 0; i < width; i += LANES)
            store_elements(normed + row * width + i, load(x + i) * scale * load(weight + i));
    }
}

/* With n = sum / rms: d sum = (g w - n mean(g w n)) / rms + what comes from later layers; d weight += g n.
   `grad` is that of normed, `later` that of sum (or NULL); down (float) and changed (elements, or NULL) get d sum.
   `parts` (threads, width) is zero. */
void norm_backward(const elem *grad, const float *later, const float *sum, const float *weight, const float *inverse,
                   int64_t rows, int64_t width, float *down, elem *changed, float *weight_grad, float *parts,
                   int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const elem *g = grad + row * width;
        const float *x = sum + row * width, *above = later ? later + row * width : 0;
        float *part = parts + thread_number() * width, scale = inverse[row];
        vec along = {0};
        for (int64_t i = 0; i < width; i += LANES) {
            vec product = load_elements(g + i) * load(x + i) * scale;
            store(part + i, load(part + i) + product);
            along += product * load(weight + i);
        }
        float mean = total(along) / width * scale;
        for (int64_t i = 0; i < width; i += LANES) {
            vec d = (load_elements(g + i) * load(weight + i) - load(x + i) * mean) * scale;
            if (above) d += load(above + i);
            store(down + row * width + i, d);
            if (changed) store_elements(changed + row * width + i, d);
        }
    }
    gather_parts(parts, threads, width, weight_grad);
}

/* joined (rows, query + 2 key heads, dim) to queries, keys (normalised where `norm` is there, and turned) and values.
   inverse (rows, query + key heads) is written where heads are normalised. */
void heads_forward(const elem *joined, const float *norm, const float *cos, const float *sin, int64_t rows,
                   int64_t query_heads, int64_t key_heads, int64_t dim, float eps, elem *query, elem *key, elem *value,
                   float *inverse, int64_t threads) {
    int64_t turned = query_heads + key_heads, heads = turned + key_heads, half = dim / 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const elem *x = joined + row * heads * dim;
        const float *c = cos + row * dim, *s = sin + row * dim;
        for (int64_t head = 0; head < turned; head++, x += dim) {
            int64_t place = head < query_heads ? row * query_heads + head : row * key_heads + head - query_heads;
            elem *out = (head < query_heads ? query : key) + place * dim;
            const float *w = norm ? norm + head * dim : 0;
            float scale = 1;
            if (w) scale = inverse[row * turned + head] = inverse_size_of_elements(x, dim, eps);
            for (int64_t i = 0; i < half; i += LANES) {
                vec low = load_elements(x + i) * scale, high = load_elements(x + half + i) * scale;
                if (w) low *= load(w + i), high *= load(w + half + i);
                store_elements(out + i, low * load(c + i) + high * load(s + i));
                store_elements(out + half + i, high * load(c + half + i) + low * load(s + half + i));
            }
        }
        memcpy(value + row * key_heads * dim, x, sizeof(elem) * key_heads * dim);
    }
}

/* The way back; `parts` (threads, query + key heads, dim) is zero. */
void heads_backward(const elem *query, const elem *key, const elem *value, const elem *joined, const float *norm,
                    const float *cos, const float *sin, const float *inverse, int64_t rows, int64_t query_heads,
                    int64_t key_heads, int64_t dim, elem *down, float *norm_grad, float *parts, int64_t threads) {
    int64_t turned = query_heads + key_heads, heads = turned + key_heads, half = dim / 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const elem *x = joined + row * heads * dim;
        elem *d = down + row * heads * dim;
        const float *c = cos + row * dim, *s = sin + row * dim;
        for (int64_t head = 0; head < turned; head++, x += dim, d += dim) {
            int64_t place = head < query_heads ? row * query_heads + head : row * key_heads + head - query_heads;
            const elem *grad = (head < query_heads ? query : key) + place * dim;
            const float *w = norm ? norm + head * dim : 0;
            float *part = parts + (thread_number() * turned + head) * dim, scale = w ? inverse[row * turned + head] : 1;
            vec along = {0};
            for (int64_t i = 0; i < dim && w; i += LANES) { /* first what the norm needs of all the head */
                vec g = turned_back(grad, c, s, i, half), product = g * load_elements(x + i) * scale;
                store(part + i, load(part + i) + product);
                along += product * load(w + i);
            }
            float mean = w ? total(along) / dim * scale : 0;
            for (int64_t i = 0; i < dim; i += LANES) {
                vec g = turned_back(grad, c, s, i, half);
                if (w) g = (g * load(w + i) - load_elements(x + i) * mean) * scale;
                store_elements(d + i, g);
            }
        }
        memcpy(d, value + row * key_heads * dim, sizeof(elem) * key_heads * dim);
    }
    if (norm) gather_parts(parts, threads, turned * dim, norm_grad);
}

/* both (rows, 2 inner), gates in front, to silu(gate) * up, (rows, inner). */
void gated_forward(const elem *both, int64_t rows, int64_t inner, elem *out, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const elem *gate = both + row * 2 * inner, *up = gate + inner;
        for (int64_t i = 0; i < inner; i += LANES) {
            vec g = load_elements(gate + i);
            store_elements(out + row * inner + i, g / (1 + exponential(-g)) * load_elements(up + i));
        }
    }
}

/* d gate = grad up s (1 + gate (1 - s)) with s = sigmoid(gate); d up = grad gate s. */
void gated_backward(const elem *grad, const elem *both, int64_t rows, int64_t inner, elem *down, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const elem *gate = both + row * 2 * inner, *up = gate + inner;
        elem *down_gate = down + row * 2 * inner, *down_up = down_gate + inner;
        for (int64_t i = 0; i < inner; i += LANES) {
            vec g = load_elements(gate + i), d = load_elements(grad + row * inner + i);
            vec s = 1 / (1 + exponential(-g));
            store_elements(down_gate + i, d * load_elements(up + i) * s * (1 + g * (1 - s)));
            store_elements(down_up + i, d * g * s);
        }
    }
}
