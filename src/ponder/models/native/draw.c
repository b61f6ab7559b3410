/* Draws a token for every row of logits; see ponder/engines/_drawing.py, whose torch code says the same. */

#include "vectors.h"

enum { PART = 256 }; /* tokens whose chances are summed together */

/* The token at which the running sum of the chances passes `uniform` of their total, or the likeliest one if `greedy`;
   and its log-probability in nats. `chances` (vocabulary,) and `parts` are room to work in. */
static void draw_row(const float *logits, int64_t vocabulary, float temperature, int greedy, double uniform,
                     float *chances, int64_t *token, float *logprob) {
    int64_t whole = vocabulary / LANES * LANES, best = 0;
    vec most = (vec){0} - INFINITY;
    for (int64_t i = 0; i < whole; i += LANES) most = larger(load(logits + i), most);
    float highest = largest(most);
    for (int64_t i = whole; i < vocabulary; i++) highest = logits[i] > highest ? logits[i] : highest;
    double sum = 0;
    for (int64_t begin = 0; begin < vocabulary; begin += PART) {
        int64_t end = begin + PART < vocabulary ? begin + PART : vocabulary, i = begin;
        vec part = {0};
        for (; i + LANES <= end; i += LANES) {
            vec chance = exponential((load(logits + i) - highest) / temperature);
            store(chances + i, chance);
            part += chance;
        }
        sum += total(part);
        for (; i < end; i++) {
            chances[i] = expf((logits[i] - highest) / temperature);
            sum += chances[i];
        }
    }
    if (greedy) {
        while (best < vocabulary - 1 && logits[best] != highest) best++;
    } else {
        double target = uniform * sum, passed = 0;
        int64_t last = 0; /* the last token that has a chance at all: rounding must not carry the walk past it */
        for (int64_t i = 0; i < vocabulary && passed <= target; i++) {
            passed += chances[i];
            if (chances[i] > 0) last = i;
        }
        best = last;
    }
    *token = best;
    *logprob = (float)log(chances[best] / sum);
}

/* logits (rows, vocabulary), room (threads, vocabulary). */
void draw(const float *logits, int64_t rows, int64_t vocabulary, float temperature, int64_t greedy,
          const double *uniform, float *room, int64_t *tokens, float *logprobs, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++)
        draw_row(logits + row * vocabulary, vocabulary, temperature, (int)greedy, uniform[row],
                 room + thread_number() * vocabulary, tokens + row, logprobs + row);
}
