/* Log-probabilities of the tokens that carry a weight, and the way back; see ponder/models/scoring.py. */

#include "vectors.h"

/* scores (rows, vocabulary) become exp((score - highest) / temperature), whose sums' inverses are kept.
   Log-probabilities of the targets and entropies in nats. The vocabulary is a multiple of LANES. */
void token_logprobs(float *scores, const int64_t *targets, int64_t rows, int64_t vocabulary, float temperature,
                    float *inverses, float *logprobs, float *entropies, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        float *x = scores + row * vocabulary;
        vec most = load(x), sums = {0}, weighted = {0};
        for (int64_t i = LANES; i < vocabulary; i += LANES) most = larger(load(x + i), most);
        float highest = largest(most), target = (x[targets[row]] - highest) / temperature;
        for (int64_t i = 0; i < vocabulary; i += LANES) {
            vec below = (load(x + i) - highest) / temperature, chance = exponential(below);
            sums += chance, weighted += chance * below;
            store(x + i, chance);
        }
        float sum = total(sums);
        inverses[row] = 1 / sum;
        logprobs[row] = target - logf(sum);
        entropies[row] = logf(sum) - total(weighted) / sum;
    }
}

/* out (rows, vocabulary): gradients of the scores, from those of the log-probabilities:
   (onehot - p) grad / temperature. */
void token_slopes(const float *chances, const int64_t *targets, const float *inverses, const float *grad, int64_t rows,
                  int64_t vocabulary, float temperature, elem *out, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const float *x = chances + row * vocabulary;
        float pull = grad[row] / temperature, scale = -pull * inverses[row];
        for (int64_t i = 0; i < vocabulary; i += LANES) store_elements(out + row * vocabulary + i, load(x + i) * scale);
        out[row * vocabulary + targets[row]] = element(x[targets[row]] * scale + pull);
    }
}
