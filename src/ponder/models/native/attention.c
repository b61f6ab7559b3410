/* Causal attention over packed tokens: sequences, and trees of sequences that begin with the same trunk.

   A tree's branches each see all of their trunk and themselves. Queries (tokens, query heads, dim), keys and values
   (tokens, key heads, dim). Nothing is padded, places that a query may not see are hardly computed, and scores live
   only for a block of queries. The torch code that says the same is ponder/models/packed.py.

   Source: gradients by recomputed scores as in Dao et al. 2022 (arXiv:2205.14135), algorithm 4. */

#include "vectors.h"

enum { BLOCK = 4 * LANES }; /* queries whose scores are made together; two panels */

typedef struct {
    const elem *query, *key, *value;
    int64_t query_heads, key_heads, dim;
    float scaling;
    int64_t window; /* tokens that are seen, or 0 for all */
    int64_t trees;
    const int64_t *trunks, *trunk_starts; /* (trees,) tokens, and their first row */
    const int64_t *families;              /* (trees + 1,) where a tree's branches begin */
    const int64_t *branches, *branch_starts;
    char *scratch; /* (threads, scratch_bytes) */
    int64_t scratch_bytes;
} Attention;

typedef struct { /* a sequence as one head sees it: what it shares, then itself */
    int64_t shared_start, shared, start, length;
} Sequence;

static void *take(char **room, int64_t bytes) {
    void *mine = *room;
    *room += (bytes + 63) / 64 * 64;
    return mine;
}

/* Rows of one head, what is shared first, one after the other. */
static void collect(const elem *all, int64_t stride, const Sequence *s, int64_t dim, elem *out) {
    for (int64_t t = 0; t < s->shared; t++, out += dim)
        memcpy(out, all + (s->shared_start + t) * stride, sizeof(elem) * dim);
    for (int64_t t = 0; t < s->length; t++, out += dim) memcpy(out, all + (s->start + t) * stride, sizeof(elem) * dim);
}

static Sequence sequence_of(const Attention *a, int64_t tree, int64_t branch) {
    if (branch < 0) return (Sequence){0, 0, a->trunk_starts[tree], a->trunks[tree]};
    return (Sequence){a->trunk_starts[tree], a->trunks[tree], a->branch_starts[branch], a->branches[branch]};
}

/* The first place that the query at a place sees. */
static int64_t first_seen(const Attention *a, int64_t place) {
    return a->window && place >= a->window ? place - a->window + 1 : 0;
}

/* Forward */

/* Scores (n,) become weights, those outside [begin, end) zero; returns the log of the sum of their exponentials. */
static float softmax(float *scores, elem *weights, int64_t begin, int64_t end, int64_t n, float scaling) {
    for (int64_t i = 0; i < begin; i++) scores[i] = -INFINITY;
    for (int64_t i = end; i < n; i++) scores[i] = -INFINITY;
    vec most = load(scores), sum = {0};
    for (int64_t i = LANES; i < n; i += LANES) most = larger(most, load(scores + i));
    float highest = largest(most);
    for (int64_t i = 0; i < n; i += LANES) {
        vec chance = exponential((load(scores + i) - highest) * scaling);
        sum += chance;
        store(scores + i, chance);
    }
    float all = total(sum), inverse = 1 / all;
    for (int64_t i = 0; i < n; i += LANES) store_elements(weights + i, load(scores + i) * inverse);
    return highest * scaling + logf(all);
}

/* The outputs of a sequence's queries, of one key head; sums (tokens, query heads) are kept for the way back. */
static void forward(const Attention *a, Sequence s, int64_t head, elem *out, float *sums, char *room) {
    int64_t dim = a->dim, share = a->query_heads / a->key_heads, stride = a->query_heads * dim;
    int64_t n = s.shared + s.length, places = padded(n);
    elem *rows = take(&room, n * dim * sizeof(elem)), *keys = take(&room, places * dim * sizeof(elem));
    elem *values = take(&room, places * dim * sizeof(elem)), *weights = take(&room, BLOCK * places * sizeof(elem));
    float *scores = take(&room, BLOCK * places * sizeof(float));
    collect(a->key + head * dim, a->key_heads * dim, &s, dim, rows);
    pack_rows(rows, dim, n, places, dim, keys);
    collect(a->value + head * dim, a->key_heads * dim, &s, dim, rows);
    pack_columns(rows, dim, n, places, places, dim, values);
    for (int64_t begin = 0; begin < s.length; begin += BLOCK) {
        int64_t count = smaller(BLOCK, s.length - begin), seen = padded(s.shared + begin + count);
        int64_t from = first_seen(a, s.shared + begin) / PANEL * PANEL, width = seen - from;
        for (int64_t r = 0; r < share; r++) {
            int64_t first = (s.start + begin) * a->query_heads + head * share + r;
            for (int64_t at = from; at < seen; at += PANEL)
                panel_product(a->query + first * dim, count, stride, keys + at * dim, dim / PAIR, scores + at - from,
                              width, 0);
            for (int64_t q = 0; q < count; q++) {
                int64_t place = s.shared + begin + q;
                sums[first + q * a->query_heads] =
                    softmax(scores + q * width, weights + q * width, first_seen(a, place) - from, place + 1 - from,
                            width, a->scaling);
            }
            for (int64_t i = 0; i < dim; i += PANEL) {
                float part[BLOCK * PANEL];
                panel_product(weights, count, width, values + i * places + from * PANEL, width / PAIR, part, PANEL, 0);
                for (int64_t q = 0; q < count; q++)
                    for (int64_t j = 0; j < PANEL; j += LANES)
                        store_elements(out + (first + q * a->query_heads) * dim + i + j, load(part + q * PANEL + j));
            }
        }
    }
}

void attention_forward(const Attention *a, elem *out, float *sums, int64_t threads) {
    int64_t branches = a->families[a->trees];
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t task = 0; task < (a->trees + branches) * a->key_heads; task++) {
        int64_t place = task / a->key_heads, tree = place, branch = place - a->trees;
        if (branch < 0)
            branch = -1;
        else
            for (tree = 0; a->families[tree + 1] <= branch;) tree++;
        forward(a, sequence_of(a, tree, branch), task % a->key_heads, out, sums,
                a->scratch + thread_number() * a->scratch_bytes);
    }
}

/* Backward */

typedef struct {
    const elem *out, *grad; /* (tokens, query heads, dim): outputs, and their gradients */
    const float *sums;
    elem *query, *key, *value; /* gradients */
} Gradients;

/* Weights and gradients of scores of one block, turned: (places, BLOCK), a lane per query. */
static void turned_weights(const Attention *a, const float *scores, const float *pulls, const float *sums,
                           const float *dots, int64_t from, int64_t to, int64_t place, elem *weights, elem *slopes) {
    ivec lanes;
    for (int i = 0; i < LANES; i++) lanes[i] = i;
    for (int64_t t = from; t < to; t++)
        for (int64_t q = 0; q < BLOCK; q += LANES) {
            ivec places = lanes + (int32_t)(place + q), seen = places >= (int32_t)t;
            if (a->window) seen &= places < (int32_t)(t + a->window);
            int64_t at = (t - from) * BLOCK + q;
            vec chance = exponential(load(scores + at) * a->scaling - load(sums + q));
            chance = (vec)((ivec)chance & seen);
            store_elements(weights + at, chance);
            store_elements(slopes + at, chance * (load(pulls + at) - load(dots + q)) * a->scaling);
        }
}

/* Gradients of a sequence's queries, and, added, of the keys and values that it sees, (places, dim) each. */
static void backward(const Attention *a, const Gradients *g, Sequence s, int64_t head, float *key_grad,
                     float *value_grad, char *room) {
    int64_t dim = a->dim, share = a->query_heads / a->key_heads, stride = a->query_heads * dim;
    int64_t n = s.shared + s.length, places = padded(n);
    elem *keys = take(&room, places * dim * sizeof(elem)), *values = take(&room, places * dim * sizeof(elem));
    elem *key_columns = take(&room, places * dim * sizeof(elem));
    elem *query_rows = take(&room, BLOCK * dim * sizeof(elem)), *grad_rows = take(&room, BLOCK * dim * sizeof(elem));
    elem *query_columns = take(&room, BLOCK * dim * sizeof(elem));
    elem *grad_columns = take(&room, BLOCK * dim * sizeof(elem));
    float *scores = take(&room, places * BLOCK * sizeof(float)), *pulls = take(&room, places * BLOCK * sizeof(float));
    elem *weights = take(&room, places * BLOCK * sizeof(elem)), *slopes = take(&room, places * BLOCK * sizeof(elem));
    elem *slope_panels = take(&room, places * BLOCK * sizeof(elem));
    float *down = take(&room, dim * BLOCK * sizeof(float));
    collect(a->key + head * dim, a->key_heads * dim, &s, dim, keys);
    collect(a->value + head * dim, a->key_heads * dim, &s, dim, values);
    pack_columns(keys, dim, n, places, places, dim, key_columns);
    for (int64_t begin = 0; begin < s.length; begin += BLOCK) {
        int64_t count = smaller(BLOCK, s.length - begin), place = s.shared + begin;
        int64_t from = first_seen(a, place) / PANEL * PANEL, to = place + count, seen = to - from;
        for (int64_t r = 0; r < share; r++) {
            int64_t first = (s.start + begin) * a->query_heads + head * share + r;
            const elem *query = a->query + first * dim, *grad = g->grad + first * dim, *out = g->out + first * dim;
            float sums[BLOCK], dots[BLOCK] = {0};
            for (int64_t q = 0; q < BLOCK; q++) {
                sums[q] = q < count ? g->sums[first + q * a->query_heads] : INFINITY; /* weight 0 */
                vec dot = {0};
                for (int64_t i = 0; i < dim && q < count; i += LANES)
                    dot += load_elements(grad + q * stride + i) * load_elements(out + q * stride + i);
                dots[q] = total(dot);
            }
            pack_rows(query, stride, count, BLOCK, dim, query_rows);
            pack_rows(grad, stride, count, BLOCK, dim, grad_rows);
            pack_columns(query, stride, count, BLOCK, BLOCK, dim, query_columns);
            pack_columns(grad, stride, count, BLOCK, BLOCK, dim, grad_columns);
            for (int64_t p = 0; p < BLOCK; p += PANEL) {
                panel_product(keys + from * dim, seen, dim, query_rows + p * dim, dim / PAIR, scores + p, BLOCK, 0);
                panel_product(values + from * dim, seen, dim, grad_rows + p * dim, dim / PAIR, pulls + p, BLOCK, 0);
            }
            turned_weights(a, scores, pulls, sums, dots, from, to, place, weights, slopes);
            for (int64_t i = 0; i < dim; i += PANEL) {
                panel_product(weights, seen, BLOCK, grad_columns + i * BLOCK, BLOCK / PAIR, value_grad + from * dim + i,
                              dim, 1);
                panel_product(slopes, seen, BLOCK, query_columns + i * BLOCK, BLOCK / PAIR, key_grad + from * dim + i,
                              dim, 1);
            }
            int64_t whole = padded(seen);
            pack_columns(slopes, BLOCK, seen, whole, whole, BLOCK, slope_panels);
            for (int64_t p = 0; p < BLOCK; p += PANEL)
                for (int64_t i = 0; i < dim; i += PANEL)
                    turned_product(key_columns + i * places + from * PANEL, slope_panels + p * whole, whole / PAIR,
                                   down + i * BLOCK + p, BLOCK, 0);
            for (int64_t q = 0; q < count; q++)
                for (int64_t i = 0; i < dim; i++)
                    g->query[(first + q * a->query_heads) * dim + i] = element(down[i * BLOCK + q]);
        }
    }
}

/* The gradients of a tree and one key head: branches first, whose trunk's share is added to the trunk's own. */
static void backward_tree(const Attention *a, const Gradients *g, int64_t tree, int64_t head, char *room) {
    int64_t dim = a->dim, stride = a->key_heads * dim, trunk = a->trunks[tree], most = trunk;
    for (int64_t b = a->families[tree]; b < a->families[tree + 1]; b++)
        if (trunk + a->branches[b] > most) most = trunk + a->branches[b];
    float *keys = take(&room, most * dim * sizeof(float)), *values = take(&room, most * dim * sizeof(float));
    memset(keys, 0, most * dim * sizeof(float));
    memset(values, 0, most * dim * sizeof(float));
    for (int64_t b = a->families[tree]; b <= a->families[tree + 1]; b++) {
        Sequence s = sequence_of(a, tree, b < a->families[tree + 1] ? b : -1);
        backward(a, g, s, head, keys, values, room);
        float *own_keys = keys + s.shared * dim, *own_values = values + s.shared * dim;
        for (int64_t t = 0; t < s.length; t++)
            for (int64_t i = 0; i < dim; i += LANES) {
                store_elements(g->key + (s.start + t) * stride + head * dim + i, load(own_keys + t * dim + i));
                store_elements(g->value + (s.start + t) * stride + head * dim + i, load(own_values + t * dim + i));
            }
        memset(own_keys, 0, s.length * dim * sizeof(float));
        memset(own_values, 0, s.length * dim * sizeof(float));
    }
}

void attention_backward(const Attention *a, const elem *out, const elem *grad, const float *sums, elem *query,
                        elem *key, elem *value, int64_t threads) {
    Gradients g = {out, grad, sums, query, key, value};
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t task = 0; task < a->trees * a->key_heads; task++)
        backward_tree(a, &g, task / a->key_heads, task % a->key_heads, a->scratch + thread_number() * a->scratch_bytes);
}

/* Bytes of scratch that a thread needs for sequences of up to so many tokens. */
int64_t attention_scratch(int64_t dim, int64_t tokens) {
    int64_t places = padded(tokens);
    return places * dim * (3 * (int64_t)sizeof(elem) + 2 * (int64_t)sizeof(float)) +
           BLOCK * places * (3 * (int64_t)sizeof(elem) + 2 * (int64_t)sizeof(float)) +
           BLOCK * dim * (4 * (int64_t)sizeof(elem) + (int64_t)sizeof(float)) + 16 * 64;
}
