/* Linear maps of many tokens and their gradients; rows and columns come in whole panels. */

#include "products.h"

int64_t panel(void) { return PANEL; }
int64_t lanes(void) { return LANES; }

/* weights (out, in), a part of a joined matrix, to panels over its outputs (contiguous) ... */
void pack_outputs(const elem *weights, int64_t out, int64_t in, elem *panels, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t at = 0; at < out; at += PANEL)
        pack_rows(weights + at * in, in, smaller(PANEL, out - at), PANEL, in, panels + at * in);
}

/* ... and to panels over its inputs, outputs [begin, begin + out) of `all`. */
void pack_inputs(const elem *weights, int64_t out, int64_t in, int64_t begin, int64_t all, elem *panels,
                 int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t at = 0; at < in; at += PANEL)
        pack_columns(weights + at, in, out, out, all, PANEL, panels + at * all + begin * PANEL);
}

/* sums (rows, out), or rounded, = a (rows, in) times packed weights + bias. */
void linear(const elem *a, int64_t rows, const elem *weights, const float *bias, int64_t in, int64_t out, float *sums,
            elem *rounded, int64_t threads) {
    Matrix m = {weights, bias, in, out};
#pragma omp parallel num_threads(threads)
    project(&m, a, rows, sums, rounded, 0);
}

enum { SLAB = 512 }; /* tokens that are summed at a time: their panel stays in the nearest cache */

/* out (n, k) += grad (rows, n)^T times a (rows, k). Room for both, packed: (padded rows, n) and (padded rows, k). */
void outer(const elem *grad, int64_t stride, const elem *a, int64_t rows, int64_t n, int64_t k, float *out,
           elem *grad_panels, elem *panels, int64_t threads) {
    int64_t places = padded(rows);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < places; t += PANEL) { /* all columns of some rows: they are neighbours in memory */
            int64_t count = smaller(PANEL, rows - t);
            for (int64_t i = 0; i < n; i += PANEL)
                pack_columns(grad + t * stride + i, stride, count, PANEL, places, PANEL,
                             grad_panels + i * places + t * PANEL);
            for (int64_t i = 0; i < k; i += PANEL)
                pack_columns(a + t * k + i, k, count, PANEL, places, PANEL, panels + i * places + t * PANEL);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i += PANEL)
            for (int64_t slab = 0; slab < places; slab += SLAB)
                for (int64_t j = 0; j < k; j += PANEL)
                    turned_product(grad_panels + i * places + slab * PANEL, panels + j * places + slab * PANEL,
                                   smaller(SLAB, places - slab) / PAIR, out + i * k + j, k, 1);
    }
}
