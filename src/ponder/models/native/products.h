/* Products with packed matrices, for many rows at once. */

#pragma once

#include "vectors.h"

enum { CHUNK = 5 * TILE, MANY = 16 }; /* rows that are multiplied with a panel at a time, and many of these */

typedef struct { /* packed weights (out, in) */
    const elem *weights;
    const float *bias; /* (out,) or NULL */
    int64_t in, out;
} Matrix;

/* sums (rows, m->out) or rounded, the same as elements, = a times weights + bias; added to what is in sums if `add`.
   Called by all threads of a parallel region: with many rows each takes some of them, with few some of the outputs. */
static inline void project(const Matrix *m, const elem *a, int64_t rows, float *sums, elem *rounded, int add) {
    int64_t panels = (m->out + PANEL - 1) / PANEL, chunks = (rows + CHUNK - 1) / CHUNK;
    int64_t together = chunks < MANY ? 1 : panels; /* panels of one task */
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < panels * chunks; task += together) {
        int64_t row = task / panels * CHUNK, count = smaller(CHUNK, rows - row);
        for (int64_t panel = task % panels; panel < task % panels + together; panel++) {
            int64_t column = panel * PANEL, real = smaller(PANEL, m->out - column);
            float part[CHUNK * PANEL];
            panel_product(a + row * m->in, count, m->in, m->weights + column * m->in, m->in / PAIR, part, PANEL, 0);
            for (int64_t i = 0; i < count; i++) {
                float *source = part + i * PANEL;
                int64_t place = (row + i) * m->out + column;
                for (int64_t j = 0; j < real && m->bias; j++) source[j] += m->bias[column + j];
                if (rounded)
                    for (int64_t j = 0; j < real; j += LANES) store_elements(rounded + place + j, load(source + j));
                else
                    for (int64_t j = 0; j < real; j++) sums[place + j] = add ? sums[place + j] + source[j] : source[j];
            }
        }
    }
}
