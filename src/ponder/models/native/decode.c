/* One decoding step of a Llama-shaped model: a new token for every row, all layers, one parallel region.

   Compiled twice: with ROUNDED 1, elements are bfloat16 and their products are summed in float32; with ROUNDED 0 all
   is float32. Whatever is not an element is float32 in both. The sum behind a number never depends on which other rows
   are there, so no row feels its neighbours.

   A "packed" matrix (N, K) lies as panels of PANEL rows: [N / PANEL][K / PAIR][PANEL][PAIR]. Weights are packed over
   their outputs, keys over their tokens, values over their dimensions, so that one small product serves them all. */

#include "products.h"

typedef struct {
    Matrix qkv, output, gate_up, down; /* gate and up alternate, LANES rows each */
    const float *entry_norm, *middle_norm;
    const float *head_norm; /* (query + key heads, dim) or NULL */
    int64_t window;         /* tokens that are seen, or 0 for all */
    float scaling;
} Layer;

typedef struct { /* keys and values of a cohort at one layer, packed */
    const elem *prefix_keys, *prefix_values;
    elem *suffix_keys, *suffix_values;
} Cache;

typedef struct { /* rows that entered together */
    int64_t first, rows, groups;
    int64_t prefix, capacity; /* places for tokens of a prompt and of a suffix, multiples of PANEL */
    int64_t length;           /* tokens of a suffix, the new one included */
    const int64_t *order;     /* (rows,) rows, counted from `first`, group after group */
    const int64_t *starts;    /* (groups + 1,) where a group begins in `order` */
    const int64_t *prompts;   /* (groups,) tokens of its prompt */
    const Cache *caches;      /* (layers,) */
} Cohort;

typedef struct {
    int64_t layers, width, query_heads, key_heads, dim, inner;
    const Layer *each;
    const float *last_norm;
    float eps;
} Model;

typedef struct {      /* what a step writes */
    float *states;    /* (rows, width): embeddings at first, last hidden states at the end */
    const float *cos; /* (rows, dim) */
    const float *sin; /* (rows, dim), negative in its first half */
    float *heads;     /* (rows, (query + 2 key heads) * dim) */
    elem *entry;      /* (rows, width) */
    elem *attended;   /* (rows, query heads * dim) */
    elem *inner;      /* (rows, inner) */
    char *scratch;    /* (threads, scratch_bytes) */
    int64_t scratch_bytes;
} Space;

/* Products */

/* out (rows, inner) = silu(gate) * up. */
static void project_gated(const Matrix *m, const elem *a, int64_t rows, elem *out) {
    int64_t panels = m->out / PANEL, chunks = (rows + CHUNK - 1) / CHUNK, inner = m->out / 2;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < panels * chunks; task++) {
        int64_t column = task % panels, row = task / panels * CHUNK;
        int64_t count = rows - row < CHUNK ? rows - row : CHUNK;
        float part[CHUNK * PANEL];
        panel_product(a + row * m->in, count, m->in, m->weights + column * PANEL * m->in, m->in / PAIR, part, PANEL, 0);
        for (int64_t i = 0; i < count; i++) {
            vec gate = load(part + i * PANEL), up = load(part + i * PANEL + LANES);
            if (m->bias) {
                gate += load(m->bias + column * PANEL);
                up += load(m->bias + column * PANEL + LANES);
            }
            store_elements(out + (row + i) * inner + column * LANES, gate / (1 + exponential(-gate)) * up);
        }
    }
}

/* Norms and rotations */

static void norm_rows(const float *states, const float *weight, int64_t rows, int64_t width, float eps, elem *out) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *x = states + row * width;
        float inverse = inverse_size(x, width, eps);
        for (int64_t i = 0; i < width; i += LANES)
            store_elements(out + row * width + i, load(x + i) * inverse * load(weight + i));
    }
}

/* Normalise a head (dim,) in place where the model does, and turn it to its position. */
static void turn(float *head, const float *norm, const float *cos, const float *sin, int64_t dim, float eps) {
    int64_t half = dim / 2;
    float inverse = norm ? inverse_size(head, dim, eps) : 1;
    for (int64_t i = 0; i < half; i += LANES) {
        vec low = load(head + i) * inverse, high = load(head + half + i) * inverse;
        if (norm) low *= load(norm + i), high *= load(norm + half + i);
        store(head + i, low * load(cos + i) + high * load(sin + i));
        store(head + half + i, high * load(cos + half + i) + low * load(sin + half + i));
    }
}

/* Attention */

/* Place `at` of packed keys (tokens, dim) and of packed values (dim, tokens). */
static void append(elem *keys, elem *values, const float *key, const float *value, int64_t at, int64_t dim,
                   int64_t capacity) {
    elem rounded[LANES];
    keys += at / PANEL * PANEL * dim + at % PANEL * PAIR;
    values += at / PAIR * PANEL * PAIR + at % PAIR;
    for (int64_t i = 0; i < dim; i += LANES) {
        store_elements(rounded, load(key + i));
        for (int64_t j = 0; j < LANES; j += PAIR, keys += PANEL * PAIR) memcpy(keys, rounded + j, sizeof(elem) * PAIR);
        store_elements(rounded, load(value + i));
        elem *place = values + i / PANEL * PANEL * capacity + i % PANEL * PAIR;
        for (int64_t j = 0; j < LANES; j++) place[j * PAIR] = rounded[j];
    }
}

/* Ask for packed keys or values before they are needed: rows that come next are far apart. */
static void expect(const elem *from, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / (int64_t)sizeof(elem)) __builtin_prefetch(from + i, 0, 2);
}

/* Scores of `count` queries against packed keys from place `begin` (a multiple of PANEL) to `end`. */
static void score(const elem *queries, int64_t count, const elem *keys, int64_t begin, int64_t end, int64_t dim,
                  float *scores, int64_t stride) {
    for (int64_t at = begin; at < end; at += PANEL)
        panel_product(queries, count, dim, keys + at * dim, dim / PAIR, scores + at - begin, stride, 0);
}

/* Scores (n,) become weights, summed to 1; places outside [begin, end) and [again, last) get 0. n % LANES == 0. */
static void softmax(float *scores, elem *weights, int64_t begin, int64_t end, int64_t again, int64_t last, int64_t n) {
    for (int64_t i = 0; i < begin; i++) scores[i] = -INFINITY;
    for (int64_t i = end; i < again; i++) scores[i] = -INFINITY;
    for (int64_t i = last; i < n; i++) scores[i] = -INFINITY;
    vec most = load(scores), sum = {0};
    for (int64_t i = LANES; i < n; i += LANES) most = larger(most, load(scores + i));
    float highest = largest(most);
    for (int64_t i = 0; i < n; i += LANES) {
        vec chance = exponential(load(scores + i) - highest);
        sum += chance;
        store(scores + i, chance);
    }
    float inverse = 1 / total(sum);
    for (int64_t i = 0; i < n; i += LANES) store_elements(weights + i, load(scores + i) * inverse);
}

/* out (count, dim) += weights (count, tokens) times packed values, places [begin, end), multiples of PANEL. */
static void weigh(const elem *weights, int64_t count, int64_t stride, const elem *values, int64_t begin, int64_t end,
                  int64_t dim, int64_t capacity, float *out) {
    if (begin >= end) return;
    for (int64_t i = 0; i < dim; i += PANEL)
        panel_product(weights, count, stride, values + i * capacity + begin * PANEL, (end - begin) / PAIR, out + i, dim,
                      1);
}

/* Attention of some rows of one group, and of the query heads of one key head. */
static void attend(const Model *m, const Layer *layer, const Cohort *c, const Cache *cache, const Space *space,
                   int64_t group, int64_t begin, int64_t count, int64_t head, char *scratch) {
    int64_t dim = m->dim, share = m->query_heads / m->key_heads, queries = count * share;
    int64_t heads = (m->query_heads + 2 * m->key_heads) * dim;
    int64_t prompt = c->prompts[group], length = c->length;
    int64_t hidden = layer->window && layer->window < prompt + length ? prompt + length - layer->window : 0;
    int64_t own = hidden > prompt ? hidden - prompt : 0; /* places that the window hides, of prompt and suffix */
    hidden = hidden > prompt ? prompt : hidden;
    int64_t prefix_from = hidden / PANEL * PANEL, prefix_to = hidden < prompt ? padded(prompt) : prefix_from;
    int64_t suffix_from = own / PANEL * PANEL, suffix_to = padded(length);
    int64_t on_prompt = prefix_to - prefix_from, stride = on_prompt + suffix_to - suffix_from;
    elem *query = (elem *)scratch;
    float *out = (float *)(query + QUERIES * dim), *scores = out + QUERIES * dim;
    elem *weights = (elem *)(scores + QUERIES * stride);
    int64_t offset = (group * m->key_heads + head) * c->prefix * dim;
    const elem *shared_keys = cache->prefix_keys + offset, *shared_values = cache->prefix_values + offset;

    memset(out, 0, sizeof(float) * queries * dim);
    for (int64_t i = 0; i < count; i++) {
        int64_t mine = c->order[begin + i], row = c->first + mine;
        const float *cos = space->cos + row * dim, *sin = space->sin + row * dim;
        float *parts = space->heads + row * heads, *key = parts + (m->query_heads + head) * dim;
        int64_t place = (mine * m->key_heads + head) * c->capacity * dim;
        const float *norm = layer->head_norm;
        if (i + 1 < count) {
            int64_t next = (c->order[begin + i + 1] * m->key_heads + head) * c->capacity * dim;
            expect(cache->suffix_keys + next + suffix_from * dim, (suffix_to - suffix_from) * dim);
        }
        turn(key, norm ? norm + (m->query_heads + head) * dim : NULL, cos, sin, dim, m->eps);
        append(cache->suffix_keys + place, cache->suffix_values + place, key, key + m->key_heads * dim, length - 1, dim,
               c->capacity);
        for (int64_t j = 0; j < share; j++) {
            float *x = parts + (head * share + j) * dim;
            turn(x, norm ? norm + (head * share + j) * dim : NULL, cos, sin, dim, m->eps);
            for (int64_t k = 0; k < dim; k += LANES)
                store_elements(query + (i * share + j) * dim + k, load(x + k) * layer->scaling);
        }
        score(query + i * share * dim, share, cache->suffix_keys + place, suffix_from, suffix_to, dim,
              scores + i * share * stride + on_prompt, stride);
    }
    score(query, queries, shared_keys, prefix_from, prefix_to, dim, scores, stride);
    for (int64_t q = 0; q < queries; q++)
        softmax(scores + q * stride, weights + q * stride, on_prompt ? hidden - prefix_from : 0,
                on_prompt ? prompt - prefix_from : 0, on_prompt + own - suffix_from, on_prompt + length - suffix_from,
                stride);
    weigh(weights, queries, stride, shared_values, prefix_from, prefix_to, dim, c->prefix, out);
    for (int64_t i = 0; i < count; i++) {
        int64_t mine = c->order[begin + i], row = c->first + mine;
        const elem *values = cache->suffix_values + (mine * m->key_heads + head) * c->capacity * dim;
        if (i + 1 < count)
            for (int64_t j = 0; j < dim; j += PANEL)
                expect(cache->suffix_values + (c->order[begin + i + 1] * m->key_heads + head) * c->capacity * dim +
                           j * c->capacity + suffix_from * PANEL,
                       (suffix_to - suffix_from) * PANEL);
        weigh(weights + i * share * stride + on_prompt, share, stride, values, suffix_from, suffix_to, dim, c->capacity,
              out + i * share * dim);
        elem *target = space->attended + (row * m->query_heads + head * share) * dim;
        for (int64_t k = 0; k < share * dim; k += LANES) store_elements(target + k, load(out + i * share * dim + k));
    }
}

/* Bytes of scratch that a thread needs for prompts and suffixes of so many places. */
int64_t scratch_bytes(int64_t dim, int64_t places) {
    return QUERIES * (dim + places) * (int64_t)(sizeof(float) + sizeof(elem)) + 64;
}

/* All groups of all cohorts; a group is cut where its queries would be more than QUERIES. */
static void attend_all(const Model *m, int64_t layer, const Cohort *cohorts, int64_t count, const Space *space,
                       char *scratch) {
    int64_t most = QUERIES / (m->query_heads / m->key_heads);
    for (int64_t i = 0; i < count; i++) {
        const Cohort *c = cohorts + i;
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t task = 0; task < c->groups * m->key_heads; task++) {
            int64_t group = task / m->key_heads, end = c->starts[group + 1];
            for (int64_t begin = c->starts[group]; begin < end; begin += most)
                attend(m, m->each + layer, c, c->caches + layer, space, group, begin, smaller(most, end - begin),
                       task % m->key_heads, scratch);
        }
    }
#pragma omp barrier
}

void step(const Model *m, const Cohort *cohorts, int64_t count, int64_t rows, const Space *space, int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
        char *scratch = space->scratch + thread_number() * space->scratch_bytes;
        for (int64_t i = 0; i < m->layers; i++) {
            const Layer *layer = m->each + i;
            norm_rows(space->states, layer->entry_norm, rows, m->width, m->eps, space->entry);
            project(&layer->qkv, space->entry, rows, space->heads, NULL, 0);
            attend_all(m, i, cohorts, count, space, scratch);
            project(&layer->output, space->attended, rows, space->states, NULL, 1);
            norm_rows(space->states, layer->middle_norm, rows, m->width, m->eps, space->entry);
            project_gated(&layer->gate_up, space->entry, rows, space->inner);
            project(&layer->down, space->inner, rows, space->states, NULL, 1);
        }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) {
            float *x = space->states + row * m->width, inverse = inverse_size(x, m->width, m->eps);
            for (int64_t j = 0; j < m->width; j += LANES) store(x + j, load(x + j) * inverse * load(m->last_norm + j));
        }
    }
}
