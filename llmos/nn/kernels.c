/* The inner loops of a step of generation, for a CPU: products with weights of 8 bits, and attention over blocks.

   Compiled where there is a C compiler; nn/compiled.py says how, and what is done where there is none. Every function
   splits its work over the threads of the OpenMP that torch has loaded. All matrices are row-major. */

#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* A function of its own, not compiled once more for what one caller always gives it: so its bits are the same wherever
   it is called. */
#if defined(__clang__)
#define ALONE __attribute__((noinline))
#else
#define ALONE __attribute__((noinline, noclone))
#endif

enum { PANEL = 16, GROUP = 4, TILE = 4, ROWS = 128, BLOCK = 64 };

static long up(long n, long to) { return (n + to - 1) / to * to; }

/* Panels of 16 outputs: 4 inputs of each side by side, then the next 4 inputs; what is lacking to a whole panel is 0.
   Every 64 inputs of an output have a scale, [outs, blocks] as it comes and [panels, blocks, 16] as it is kept. `less` is
   what a block's sum is too high by, for inputs are stored 128 higher than they are. */
void llmos_pack(const int8_t *weight, const float *scale, long outs, long ins, int8_t *packed, float *scales, int32_t *less) {
    long wide = up(ins, BLOCK), blocks = wide / BLOCK, all = up(outs, PANEL);
    memset(packed, 0, all * wide);
    memset(scales, 0, all * blocks * sizeof *scales);
    memset(less, 0, all * blocks * sizeof *less);
    for (long o = 0; o < outs; o++)
        for (long i = 0; i < ins; i++) {
            long at = (o / PANEL * blocks + i / BLOCK) * PANEL + o % PANEL;
            packed[o / PANEL * PANEL * wide + i / GROUP * PANEL * GROUP + o % PANEL * GROUP + i % GROUP] = weight[o * ins + i];
            scales[at] = scale[o * blocks + i / BLOCK];
            less[at] -= 128 * weight[o * ins + i];
        }
}

/* Some inputs as numbers from 1 to 255 around 128; returns what one of them is worth, NAN if one of them is no number. */
static inline float quantized(const float *x, long count, uint8_t *q) {
    int32_t bits = 0; /* of floats without their sign: these are in the order of the floats, what is no number last */
    for (long i = 0; i < count; i++) {
        int32_t a;
        memcpy(&a, x + i, 4);
        a &= 0x7fffffff;
        bits = a > bits ? a : bits;
    }
    if (bits >= 0x7f800000) {
        memset(q, 128, BLOCK);
        return NAN;
    }
    float most, by;
    memcpy(&most, &bits, 4);
    by = most > 1e-36f ? 127.0f / most : 0.0f;
    for (long i = 0; i < count; i++) q[i] = (uint8_t)(128 + (int)(x[i] * by + (x[i] < 0 ? -0.5f : 0.5f)));
    memset(q + count, 128, BLOCK - count);
    return most / 127.0f;
}

#if defined(__AVX2__)
/* Eight inputs of eight outputs, as two fours. Sums of 4 products stay within 16 bits, for the weights were made so:
   nn/quantized.py, `REACH`. */
static inline __m256i added(__m256i sum, __m256i x, __m256i w, __m256i y, __m256i v) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(sum, x, w), y, v);
#elif defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(sum, x, w), y, v);
#else
    __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(x, w), _mm256_maddubs_epi16(y, v));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(both, _mm256_set1_epi16(1)));
#endif
}

/* One way, whatever the compiler thinks best around it: a row has the same bits however many are computed with it. */
static inline __m256 more(__m256 sum, __m256 x, __m256 y) {
#if defined(__FMA__)
    return _mm256_fmadd_ps(x, y, sum);
#else
    return _mm256_add_ps(sum, _mm256_mul_ps(x, y));
#endif
}

/* out[rows][16]: rows of inputs, `wide` apart, times a panel. */
static inline __attribute__((always_inline)) void tile(const uint8_t *q, const float *worth, long blocks, const int8_t *panel,
                                                       const float *scales, const int32_t *less, int rows, float out[][PANEL]) {
    __m256 left[TILE], right[TILE];
    long wide = blocks * BLOCK;
    for (int r = 0; r < rows; r++) left[r] = right[r] = _mm256_setzero_ps();
    for (long b = 0; b < blocks; b++) {
        __m256i low[TILE], high[TILE];
        for (int r = 0; r < rows; r++) {
            low[r] = _mm256_loadu_si256((const __m256i *)(less + b * PANEL));
            high[r] = _mm256_loadu_si256((const __m256i *)(less + b * PANEL + 8));
        }
        for (long i = b * BLOCK; i < (b + 1) * BLOCK; i += 2 * GROUP) {
            const __m256i *w = (const __m256i *)(panel + i * PANEL);
            __m256i one = _mm256_loadu_si256(w), two = _mm256_loadu_si256(w + 1);
            __m256i three = _mm256_loadu_si256(w + 2), four = _mm256_loadu_si256(w + 3);
            for (int r = 0; r < rows; r++) {
                int32_t some[2];
                memcpy(some, q + r * wide + i, 8);
                __m256i x = _mm256_set1_epi32(some[0]), y = _mm256_set1_epi32(some[1]);
                low[r] = added(low[r], x, one, y, three);
                high[r] = added(high[r], x, two, y, four);
            }
        }
        for (int r = 0; r < rows; r++) {
            __m256 by = _mm256_set1_ps(worth[r * blocks + b]);
            left[r] = more(left[r], _mm256_cvtepi32_ps(low[r]), by * _mm256_loadu_ps(scales + b * PANEL));
            right[r] = more(right[r], _mm256_cvtepi32_ps(high[r]), by * _mm256_loadu_ps(scales + b * PANEL + 8));
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(out[r], left[r]);
        _mm256_storeu_ps(out[r] + 8, right[r]);
    }
}
#else
static inline void tile(const uint8_t *q, const float *worth, long blocks, const int8_t *panel, const float *scales,
                        const int32_t *less, int rows, float out[][PANEL]) {
    long wide = blocks * BLOCK;
    memset(out, 0, rows * sizeof *out);
    for (int r = 0; r < rows; r++)
        for (long b = 0; b < blocks; b++)
            for (int o = 0; o < PANEL; o++) {
                int32_t sum = less[b * PANEL + o];
                for (long i = b * BLOCK; i < (b + 1) * BLOCK; i++)
                    sum += q[r * wide + i] * panel[i / GROUP * PANEL * GROUP + o * GROUP + i % GROUP];
                out[r][o] += (float)sum * (worth[r * blocks + b] * scales[b * PANEL + o]);
            }
}
#endif

/* Memory of this thread for one call; the next one has it again, and the thread's end frees it. NULL: there is none. */
static pthread_key_t kept;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void made(void) { pthread_key_create(&kept, free); }

static void *room(size_t size) {
    pthread_once(&once, made);
    size_t *have = pthread_getspecific(kept); /* its size stands before it */
    if (!have || *have < size) {
        free(have);
        pthread_setspecific(kept, NULL);
        have = aligned_alloc(64, up(size + size / 4 + 64, 64));
        if (!have) return NULL;
        *have = size + size / 4;
        pthread_setspecific(kept, have);
    }
    return (char *)have + 64;
}

/* A layer's weights as llmos_pack left them; without a bias that is NULL. */
typedef struct {
    const int8_t *packed;
    const float *scales;
    const int32_t *less;
    const float *bias;
    int64_t ins, outs;
} Matrix;

/* One row of inputs in whole blocks: numbers of 8 bits, and what one of each block's is worth. */
static __attribute__((noinline)) void taken_row(const float *x, long ins, uint8_t *q, float *worth) {
    for (long i = 0; i < ins; i += BLOCK) *worth++ = quantized(x + i, ins - i < BLOCK ? ins - i : BLOCK, q + i);
}

/* out[rows, outs] = inputs @ weight.T + bias, for the outputs of one panel. */
static __attribute__((noinline)) void panelled(const uint8_t *q, const float *worth, long rows, const Matrix *m, long p, float *out) {
    long outs = m->outs, blocks = up(m->ins, BLOCK) / BLOCK, wide = blocks * BLOCK;
    long some = outs - p * PANEL < PANEL ? outs - p * PANEL : PANEL;
    const int8_t *panel = m->packed + p * PANEL * wide;
    const float *scale = m->scales + p * blocks * PANEL, *with = m->bias ? m->bias + p * PANEL : 0;
    const int32_t *off = m->less + p * blocks * PANEL;
    for (long r = 0; r < rows; r += TILE) {
        float whole[TILE][PANEL];
        const uint8_t *from = q + r * wide;
        const float *by = worth + r * blocks;
        long n = rows - r < TILE ? rows - r : TILE;
        if (n == 4) tile(from, by, blocks, panel, scale, off, 4, whole);
        else if (n == 3) tile(from, by, blocks, panel, scale, off, 3, whole);
        else if (n == 2) tile(from, by, blocks, panel, scale, off, 2, whole);
        else tile(from, by, blocks, panel, scale, off, 1, whole);
        for (long i = 0; i < n; i++) {
            long at = (r + i) * outs + p * PANEL;
            for (long o = 0; o < some; o++) out[at + o] = with ? whole[i][o] + with[o] : whole[i][o];
        }
    }
}

/* The next two are called by every thread of a team: they share the work and go on, together after the first alone. */

static void taken(const float *x, long rows, long ins, uint8_t *q, float *worth) {
    long blocks = up(ins, BLOCK) / BLOCK;
#pragma omp for schedule(static)
    for (long r = 0; r < rows; r++) taken_row(x + r * ins, ins, q + r * blocks * BLOCK, worth + r * blocks);
}

static void multiplied(const uint8_t *q, const float *worth, long rows, const Matrix *m, float *out) {
    long blocks = up(m->ins, BLOCK) / BLOCK, panels = up(m->outs, PANEL) / PANEL, bands = (rows + ROWS - 1) / ROWS;
#pragma omp for schedule(static) collapse(2) nowait
    for (long band = 0; band < bands; band++)
        for (long p = 0; p < panels; p++) {
            long from = band * ROWS, some = rows - from < ROWS ? rows - from : ROWS, at = from * m->outs;
            panelled(q + from * blocks * BLOCK, worth + from * blocks, some, m, p, out + at);
        }
}

/* x += y */
static ALONE void add(float *x, const float *y, long count) {
    for (long i = 0; i < count; i++) x[i] += y[i];
}

/* These two are one thread's own. */

static void taken_alone(const float *x, long rows, long ins, uint8_t *q, float *worth) {
    long blocks = up(ins, BLOCK) / BLOCK;
    for (long r = 0; r < rows; r++) taken_row(x + r * ins, ins, q + r * blocks * BLOCK, worth + r * blocks);
}

static void multiplied_alone(const uint8_t *q, const float *worth, long rows, const Matrix *m, float *out) {
    for (long p = 0; p < up(m->outs, PANEL) / PANEL; p++) panelled(q, worth, rows, m, p, out);
}

/* out[rows, outs] = x[rows, ins] @ weight.T + bias. 1: there is no memory for it. */
int llmos_product(const float *x, long rows, const Matrix *matrix, float *out, int threads) {
    long blocks = up(matrix->ins, BLOCK) / BLOCK;
    uint8_t *q = room(rows * blocks * (BLOCK + sizeof(float)));
    if (!q) return 1;
    float *worth = (float *)(q + rows * blocks * BLOCK);
#pragma omp parallel num_threads(threads)
    {
        taken(x, rows, matrix->ins, q, worth);
        multiplied(q, worth, rows, matrix, out);
    }
    return 0;
}

/* e^x for x from -87 to 0, to 2 units in the last place: a power of two, and a polynomial for what is left. */
static inline float power(float x) {
    float n = rintf(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    union { int32_t i; float f; } two = {.i = (int32_t)((uint32_t)((int32_t)n + 127) << 23)};
    return y * two.f;
}

/* One kv head's queries, [group, d] over one sequence's blocks: the running softmax of Milakov and Gimelshein (2018). */
static ALONE void seen(const float *q, long group, long d, const float *keys, const float *values, long stride, long block,
                 const int32_t *table, long first, long last, float scale, float *score, float *sum) {
    float best[group], whole[group];
    for (long g = 0; g < group; g++) best[g] = -INFINITY, whole[g] = 0;
    memset(sum, 0, group * d * sizeof *sum);
    for (long at = first / block; at <= last / block; at++) {
        const float *k = keys + table[at] * stride, *v = values + table[at] * stride;
        const float *next_k = at < last / block ? keys + table[at + 1] * stride : k;
        const float *next_v = at < last / block ? values + table[at + 1] * stride : v;
        long from = at == first / block ? first % block : 0, to = at == last / block ? last % block + 1 : block;
        for (long p = from; p < to; p++) {
            for (long i = 0; i < d; i += 16) __builtin_prefetch(next_k + p * d + i);
            for (long g = 0; g < group; g++) {
                float dot = 0;
                for (long i = 0; i < d; i++) dot += q[g * d + i] * k[p * d + i];
                score[g * block + p] = dot * scale;
            }
        }
        for (long g = 0; g < group; g++) {
            float *s = score + g * block, most = best[g], part = 0;
#pragma omp simd reduction(max : most)
            for (long p = from; p < to; p++) most = s[p] > most ? s[p] : most;
            float less = best[g] == -INFINITY ? 0 : power(best[g] - most < -87 ? -87 : best[g] - most);
            for (long p = from; p < to; p++) {
                float x = s[p] - most;
                s[p] = x < -87 ? 0 : power(x);
                part += s[p];
            }
            best[g] = most;
            whole[g] = whole[g] * less + part;
            for (long i = 0; i < d; i++) sum[g * d + i] *= less;
        }
        for (long p = from; p < to; p++) {
            for (long i = 0; i < d; i += 16) __builtin_prefetch(next_v + p * d + i);
            for (long g = 0; g < group; g++) {
                float share = score[g * block + p];
                for (long i = 0; i < d; i++) sum[g * d + i] += share * v[p * d + i];
            }
        }
    }
    for (long g = 0; g < group; g++)
        for (long i = 0; i < d; i++) sum[g * d + i] /= whole[g];
}

/* Keys and values of a pool, [blocks, kv heads, block, d], and what tokens see of them that continue their sequences
   alone: the blocks of token t are `tables` from `starts[t]` on; it sees its positions `first` to `last`. */
typedef struct {
    float *keys, *values;
    const int32_t *tables;
    const int64_t *starts, *first, *last;
    int64_t block;
} Held;

/* Token t's key and value join its last block, and its queries see the blocks. q, k, v are one kv head's, the queries
   `q_head` apart; out is [group, d]. `work` has room for group * (block + 2 * d) numbers. */
static ALONE void joined(const Held *held, long t, long h, long group, long kv_heads, long d, const float *q, long q_head,
                                             const float *k, const float *v, float scale, float *out, float *work) {
    long block = held->block, stride = kv_heads * block * d;
    const int32_t *table = held->tables + held->starts[t];
    long to = table[held->last[t] / block] * stride + h * block * d + held->last[t] % block * d;
    float *score = work, *sum = score + group * block, *asked = sum + group * d;
    memcpy(held->keys + to, k, d * sizeof *k);
    memcpy(held->values + to, v, d * sizeof *v);
    for (long g = 0; g < group; g++) memcpy(asked + g * d, q + g * q_head, d * sizeof *q);
    seen(asked, group, d, held->keys + h * block * d, held->values + h * block * d, stride, block, table, held->first[t], held->last[t], scale, score, sum);
    memcpy(out, sum, group * d * sizeof *sum);
}

/* Tokens at these places of a row, each going on alone. q, k, v are [heads, T, d] by their strides; out is [T, heads, d]. */
int llmos_attend(const float *q, long q_head, long q_token, const float *k, long k_head, long k_token, const float *v,
                  long v_head, long v_token, const Held *held, const int64_t *places, long tokens, long heads,
                  long kv_heads, long d, float scale, float *out, int threads) {
    long group = heads / kv_heads;
    int lacks = 0;
#pragma omp parallel num_threads(threads) reduction(| : lacks)
    {
        float *work = room(group * (held->block + 2 * d) * sizeof *work);
        lacks = !work;
#pragma omp for schedule(dynamic) collapse(2)
        for (long t = 0; t < tokens; t++)
            for (long h = 0; h < kv_heads; h++) {
                if (lacks) continue;
                long at = places[t];
                joined(held, t, h, group, kv_heads, d, q + h * group * q_head + at * q_token, q_head, k + h * k_head + at * k_token,
                       v + h * v_head + at * v_token, scale, out + (at * heads + h * group) * d, work);
            }
    }
    return lacks;
}

/* out = x / sqrt(mean(x^2) + eps) * weight, of one row of d. */
static ALONE void normed(const float *x, const float *weight, float eps, long d, float *out) {
    float sum = 0;
    for (long i = 0; i < d; i++) sum += x[i] * x[i];
    float by = 1.0f / sqrtf(sum / (float)d + eps);
    for (long i = 0; i < d; i++) out[i] = x[i] * by * weight[i];
}

void llmos_norm(const float *x, const float *weight, float eps, long rows, long d, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * d > 1 << 14)
    for (long r = 0; r < rows; r++) normed(x + r * d, weight, eps, d, out + r * d);
}

enum { LANES = 16 };

/* Compilers sum in lanes, and one by one what is left of them, not always to the same bits. These functions see whole
   LANES alone, so that a number's bits are the same wherever it stands. */

/* gate = gate / (1 + e^-gate) * up */
static ALONE void gated_lanes(float *restrict gate, const float *restrict up, long count) {
    for (long i = 0; i < count; i++) {
        float x = gate[i], a = fabsf(x), e = a > 87 ? 0 : power(-a);
        gate[i] = x * up[i] * (x < 0 ? e : 1) / (1 + e);
    }
}

static void gated(float *gate, const float *up, long count) {
    long whole = count / LANES * LANES, rest = count - whole;
    float some[LANES] = {0}, other[LANES] = {0};
    if (whole) gated_lanes(gate, up, whole);
    if (!rest) return;
    memcpy(some, gate + whole, rest * sizeof *some);
    memcpy(other, up + whole, rest * sizeof *other);
    gated_lanes(some, other, LANES);
    memcpy(gate + whole, some, rest * sizeof *some);
}

enum { SOME = 512 };

static void gated_together(float *gate, const float *up, long count) {
#pragma omp for schedule(static)
    for (long i = 0; i < count; i += SOME) gated(gate + i, up + i, count - i < SOME ? count - i : SOME);
}

void llmos_gate(float *gate, const float *up, long count, int threads) {
#pragma omp parallel num_threads(threads) if (count > 1 << 13)
    gated_together(gate, up, count);
}

/* Rotary positions, in place, of one token's [heads, d]: numbers i and i + d / 2 are the two of a plane (Su et al. 2021). */
static ALONE void rotated(float *x, long heads, long d, const float *c, const float *s) {
    long half = d / 2;
    for (long h = 0; h < heads; h++) {
        float *a = x + h * d, *b = a + half;
        for (long i = 0; i < half; i++) {
            float one = a[i], other = b[i];
            a[i] = one * c[i] - other * s[i];
            b[i] = other * c[i + half] + one * s[i + half];
        }
    }
}

void llmos_rotate(float *x, long tokens, long heads, long d, const float *cosine, const float *sine, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (tokens * heads * d > 1 << 14)
    for (long t = 0; t < tokens; t++) rotated(x + t * heads * d, heads, d, cosine + t * d, sine + t * d);
}

/* A decoder's layer of Llama's kind (Touvron et al. 2023): norm, attention with rotary positions, norm, gated products,
   each half added to what came in. The norms of queries and keys are NULL where it has none. */
typedef struct {
    Matrix query, key, value, out, gate, up, down;
    const float *before, *after, *query_norm, *key_norm;
    float before_eps, after_eps, query_eps, key_eps, scale;
    int64_t heads, kv_heads, d;
} Decoder;

static long most(long a, long b) { return a > b ? a : b; }

/* One step of tokens that continue their sequences alone, through one layer: x [tokens, hidden] -> y. */
int llmos_decode(const Decoder *layer, const float *x, long tokens, const float *cosine, const float *sine, const Held *held,
                 float *y, int threads) {
    long hidden = layer->out.outs, heads = layer->heads, kv_heads = layer->kv_heads, d = layer->d, group = heads / kv_heads;
    long inner = layer->gate.outs, seen_wide = heads * d, kv_wide = kv_heads * d;
    long widest = up(most(most(hidden, inner), seen_wide), BLOCK), score = group * (held->block + 2 * d);
    long floats = tokens * (2 * hidden + 2 * seen_wide + 2 * kv_wide + 2 * inner + widest / BLOCK) + threads * score;
    float *some = room(floats * sizeof *some + tokens * widest);
    if (!some) return 1;
    float *norm = some, *mid = norm + tokens * hidden, *q = mid + tokens * hidden, *seen_ = q + tokens * seen_wide;
    float *k = seen_ + tokens * seen_wide, *v = k + tokens * kv_wide, *gate = v + tokens * kv_wide, *up_ = gate + tokens * inner;
    float *worth = up_ + tokens * inner, *work = worth + tokens * widest / BLOCK;
    uint8_t *bits = (uint8_t *)(work + threads * score);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long t = 0; t < tokens; t++) normed(x + t * hidden, layer->before, layer->before_eps, hidden, norm + t * hidden);
        taken(norm, tokens, hidden, bits, worth);
        multiplied(bits, worth, tokens, &layer->query, q);
        multiplied(bits, worth, tokens, &layer->key, k);
        multiplied(bits, worth, tokens, &layer->value, v);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long t = 0; t < tokens; t++) {
            for (long h = 0; layer->query_norm && h < heads; h++)
                normed(q + t * seen_wide + h * d, layer->query_norm, layer->query_eps, d, q + t * seen_wide + h * d);
            for (long h = 0; layer->key_norm && h < kv_heads; h++)
                normed(k + t * kv_wide + h * d, layer->key_norm, layer->key_eps, d, k + t * kv_wide + h * d);
            rotated(q + t * seen_wide, heads, d, cosine + t * d, sine + t * d);
            rotated(k + t * kv_wide, kv_heads, d, cosine + t * d, sine + t * d);
        }
#pragma omp for schedule(dynamic) collapse(2)
        for (long t = 0; t < tokens; t++)
            for (long h = 0; h < kv_heads; h++)
                joined(held, t, h, group, kv_heads, d, q + (t * heads + h * group) * d, d, k + t * kv_wide + h * d, v + t * kv_wide + h * d,
                       layer->scale, seen_ + (t * heads + h * group) * d, work + omp_get_thread_num() * score);
        taken(seen_, tokens, seen_wide, bits, worth);
        multiplied(bits, worth, tokens, &layer->out, mid);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long t = 0; t < tokens; t++) {
            add(mid + t * hidden, x + t * hidden, hidden);
            normed(mid + t * hidden, layer->after, layer->after_eps, hidden, norm + t * hidden);
        }
        taken(norm, tokens, hidden, bits, worth);
        multiplied(bits, worth, tokens, &layer->gate, gate);
        multiplied(bits, worth, tokens, &layer->up, up_);
#pragma omp barrier
        gated_together(gate, up_, tokens * inner);
        taken(gate, tokens, inner, bits, worth);
        multiplied(bits, worth, tokens, &layer->down, y);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long t = 0; t < tokens; t++) add(y + t * hidden, mid + t * hidden, hidden);
    }
    return 0;
}

/* x / 2 * (1 + erf(x / sqrt(2))), erf by 7.1.26 of Abramowitz and Stegun (1964), which is within 1.5e-7 of it. */
static ALONE void gelu_lanes(const float *x, long count, float *out) {
    for (long i = 0; i < count; i++) {
        float a = fabsf(x[i]) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * a), square = a * a;
        float e = square > 87 ? 0 : power(-square);
        float rest = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f)))) * e;
        out[i] = 0.5f * x[i] * (x[i] < 0 ? rest : 2.0f - rest);
    }
}

static void gelu(const float *x, long count, float *out) {
    long whole = count / LANES * LANES, rest = count - whole;
    float some[LANES] = {0};
    if (whole) gelu_lanes(x, whole, out);
    if (!rest) return;
    memcpy(some, x + whole, rest * sizeof *some);
    gelu_lanes(some, LANES, some);
    memcpy(out + whole, some, rest * sizeof *some);
}

void llmos_gelu(const float *x, long count, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (count > 1 << 13)
    for (long i = 0; i < count; i += SOME) gelu(x + i, count - i < SOME ? count - i : SOME, out + i);
}

/* out = (x - mean) / sqrt(variance + eps) * weight + bias, of one row of d (Ba, Kiros and Hinton 2016). */
static ALONE void centred(const float *x, const float *weight, const float *bias, float eps, long d, float *out) {
    float sum = 0, square = 0;
    for (long i = 0; i < d; i++) sum += x[i];
    float mean = sum / (float)d;
    for (long i = 0; i < d; i++) square += (x[i] - mean) * (x[i] - mean);
    float by = 1.0f / sqrtf(square / (float)d + eps);
    for (long i = 0; i < d; i++) out[i] = (x[i] - mean) * by * weight[i] + bias[i];
}

void llmos_centre(const float *x, const float *weight, const float *bias, float eps, long rows, long d, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * d > 1 << 14)
    for (long r = 0; r < rows; r++) centred(x + r * d, weight, bias, eps, d, out + r * d);
}

typedef float lanes __attribute__((vector_size(32), aligned(4)));

enum { KEYS = 64, CHUNK = 32, PAIR = 2 };

/* to[rows][0..CHUNK] += sum over i of by[r][i * by_step] * from[i * from_step + 0..CHUNK], for two rows at a time. */
static inline __attribute__((always_inline)) void summed(const float *const by[PAIR], const float *from, long from_step, long count, float *const to[PAIR], int rows) {
    lanes sum[PAIR][4];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++) sum[r][c] = *(const lanes *)(to[r] + 8 * c);
    for (long i = 0; i < count; i++)
        for (int c = 0; c < 4; c++) {
            lanes some = *(const lanes *)(from + i * from_step + 8 * c);
            for (int r = 0; r < rows; r++) sum[r][c] += by[r][i] * some;
        }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++) *(lanes *)(to[r] + 8 * c) = sum[r][c];
}

/* One head of one sequence: `count` queries that end at its last key, over `seen` keys; a query sees those of its
   position and before if causal, and only those nearer than `window` if that is not 0. Keys go through in stretches of
   KEYS at fixed positions, so that a query's answer does not depend on which others are computed beside it. */
static ALONE void headed(const float *q, long q_step, const float *k, long k_step, const float *v, long v_step, long count,
                   long seen, long d, float scale, int causal, long window, float *out, long out_step, float *work) {
    float *turned = work, *asked = turned + d * KEYS, *score = asked + PAIR * d, *best = score + PAIR * KEYS, *whole = best + count;
    float *sum = whole + count; /* [count, wide]: a head's width in whole chunks */
    long wide = up(d, CHUNK), offset = seen - count;
    for (long i = 0; i < count; i++) best[i] = -INFINITY, whole[i] = 0;
    memset(sum, 0, count * wide * sizeof *sum);
    float *value = sum + count * wide; /* [KEYS, wide] */
    for (long start = 0; start < seen; start += KEYS) {
        long keys = seen - start < KEYS ? seen - start : KEYS, filled = up(keys, CHUNK);
        for (long j = 0; j < filled; j++)
            for (long i = 0; i < d; i++) turned[i * KEYS + j] = j < keys ? k[(start + j) * k_step + i] * scale : 0;
        for (long j = 0; j < keys; j++) {
            memcpy(value + j * wide, v + (start + j) * v_step, d * sizeof *v);
            memset(value + j * wide + d, 0, (wide - d) * sizeof *v);
        }
        long first = causal ? start - offset : window ? start - window + 1 - offset : 0, last = count;
        if (first < 0) first = 0;
        if (window && start + keys + window - 1 - offset < last) last = start + keys + window - 1 - offset;
        for (long i = first; i < last; i += PAIR) {
            int rows = last - i < PAIR ? 1 : PAIR;
            const float *by[PAIR] = {q + i * q_step, q + (i + rows - 1) * q_step};
            for (long c = 0; c < filled; c += CHUNK) {
                float *to[PAIR] = {score + c, score + KEYS + c};
                memset(to[0], 0, CHUNK * sizeof(float));
                memset(to[1], 0, CHUNK * sizeof(float));
                if (rows == PAIR) summed(by, turned + c, KEYS, d, to, PAIR);
                else summed(by, turned + c, KEYS, d, to, 1);
            }
            for (int r = 0; r < rows; r++) {
                long at = offset + i + r, from = 0, to = keys;
                if (causal && at - start + 1 < to) to = at - start + 1;
                if (window && at - window + 1 - start > from) from = at - window + 1 - start;
                if (window && !causal && at + window - start < to) to = at + window - start;
                float *s = score + r * KEYS, most = best[i + r], part = 0;
                if (from >= to) {
                    memset(s, 0, filled * sizeof *s);
                    continue;
                }
                for (long j = 0; j < from; j++) s[j] = -INFINITY;
                for (long j = to; j < filled; j++) s[j] = -INFINITY;
#pragma omp simd reduction(max : most)
                for (long j = 0; j < filled; j++) most = s[j] > most ? s[j] : most;
                float less = best[i + r] == -INFINITY ? 0 : power(best[i + r] - most < -87 ? -87 : best[i + r] - most);
                for (long j = 0; j < filled; j++) {
                    float x = s[j] - most;
                    s[j] = x < -87 ? 0 : power(x);
                    part += s[j];
                }
                best[i + r] = most;
                whole[i + r] = whole[i + r] * less + part;
                if (less != 1)
                    for (long c = 0; c < wide; c++) sum[(i + r) * wide + c] *= less;
            }
            const float *shares[PAIR] = {score, score + KEYS};
            for (long c = 0; c < wide; c += CHUNK) {
                float *to[PAIR] = {sum + i * wide + c, sum + (i + rows - 1) * wide + c};
                if (rows == PAIR) summed(shares, value + c, wide, keys, to, PAIR);
                else summed(shares, value + c, wide, keys, to, 1);
            }
        }
    }
    for (long i = 0; i < count; i++)
        for (long c = 0; c < d; c++) out[i * out_step + c] = sum[i * wide + c] / whole[i];
}

/* The numbers that `headed` wants for its work. */
static long headed_room(const int64_t *asked, long sequences, long d) {
    long longest = 0, wide = up(d, CHUNK);
    for (long s = 0; s < sequences; s++) longest = most(longest, asked[s + 1] - asked[s]);
    return d * KEYS + PAIR * d + PAIR * KEYS + longest * (2 + wide) + KEYS * wide;
}

/* Sequences side by side: sequence s has the queries from `asked[s]` to `asked[s + 1]` and the keys from `held[s]` to
   `held[s + 1]`, whose last is the last query's own. q, k, v are [heads, T, d] by their strides, out [T, heads, d]. */
int llmos_row(const float *q, long q_head, long q_token, const float *k, long k_head, long k_token, const float *v,
               long v_head, long v_token, const int64_t *asked, const int64_t *held, long sequences, long heads,
               long kv_heads, long d, float scale, int causal, long window, float *out, int threads) {
    size_t size = headed_room(asked, sequences, d) * sizeof(float);
    int lacks = 0;
#pragma omp parallel num_threads(threads) reduction(| : lacks)
    {
        float *work = room(size);
        lacks = !work;
#pragma omp for schedule(dynamic) collapse(2)
        for (long s = 0; s < sequences; s++)
            for (long h = 0; h < heads; h++) {
                if (lacks) continue;
                long g = h / (heads / kv_heads), from = asked[s], start = held[s];
                headed(q + h * q_head + from * q_token, q_token, k + g * k_head + start * k_token, k_token,
                       v + g * v_head + start * v_token, v_token, asked[s + 1] - from, held[s + 1] - start, d, scale,
                       causal, window, out + (from * heads + h) * d, heads * d, work);
            }
    }
    return lacks;
}

/* An encoder's layer of BERT's kind (Devlin et al. 2018): attention, what came in added, a norm; two products around a
   GELU, what came in added, a norm. */
typedef struct {
    Matrix query, key, value, out, widen, narrow;
    const float *first, *first_bias, *second, *second_bias;
    float first_eps, second_eps, scale;
    int64_t heads, d;
} Encoder;

enum { BAND = 64 }; /* tokens whose numbers between two products stay in a core's cache */

/* Sequences side by side, x [tokens, hidden] -> y; sequence s has the tokens from `starts[s]` to `starts[s + 1]`. */
int llmos_encode(const Encoder *layer, const float *x, const int64_t *starts, long sequences, float *y, int threads) {
    long tokens = starts[sequences], hidden = layer->out.outs, inner = layer->widen.outs, d = layer->d, wide = layer->heads * d;
    long widest = up(most(most(hidden, inner), wide), BLOCK), bands = (tokens + BAND - 1) / BAND;
    long size = most(headed_room(starts, sequences, d), BAND * (2 * hidden + inner + widest / BLOCK + widest / 4));
    float *q = room((4 * tokens * wide + threads * size) * sizeof *q);
    if (!q) return 1;
    float *k = q + tokens * wide, *v = k + tokens * wide, *seen_ = v + tokens * wide;
#pragma omp parallel num_threads(threads)
    {
        float *work = seen_ + tokens * wide + omp_get_thread_num() * size;
        float *sum = work, *mid = sum + BAND * hidden, *between = mid + BAND * hidden, *worth = between + BAND * inner;
        uint8_t *bits = (uint8_t *)(worth + BAND * widest / BLOCK);
#pragma omp for schedule(dynamic)
        for (long band = 0; band < bands; band++) {
            long from = band * BAND, n = tokens - from < BAND ? tokens - from : BAND;
            taken_alone(x + from * hidden, n, hidden, bits, worth);
            multiplied_alone(bits, worth, n, &layer->query, q + from * wide);
            multiplied_alone(bits, worth, n, &layer->key, k + from * wide);
            multiplied_alone(bits, worth, n, &layer->value, v + from * wide);
        }
#pragma omp for schedule(dynamic) collapse(2)
        for (long s = 0; s < sequences; s++)
            for (long h = 0; h < layer->heads; h++) {
                long at = starts[s] * wide + h * d, n = starts[s + 1] - starts[s];
                headed(q + at, wide, k + at, wide, v + at, wide, n, n, d, layer->scale, 0, 0, seen_ + at, wide, work);
            }
#pragma omp for schedule(dynamic)
        for (long band = 0; band < bands; band++) {
            long from = band * BAND, n = tokens - from < BAND ? tokens - from : BAND;
            taken_alone(seen_ + from * wide, n, wide, bits, worth);
            multiplied_alone(bits, worth, n, &layer->out, sum);
            add(sum, x + from * hidden, n * hidden);
            for (long t = 0; t < n; t++) centred(sum + t * hidden, layer->first, layer->first_bias, layer->first_eps, hidden, mid + t * hidden);
            taken_alone(mid, n, hidden, bits, worth);
            multiplied_alone(bits, worth, n, &layer->widen, between);
            for (long i = 0; i < n * inner; i += SOME) gelu(between + i, n * inner - i < SOME ? n * inner - i : SOME, between + i);
            taken_alone(between, n, inner, bits, worth);
            multiplied_alone(bits, worth, n, &layer->narrow, sum);
            add(sum, mid, n * hidden);
            for (long t = 0; t < n; t++) centred(sum + t * hidden, layer->second, layer->second_bias, layer->second_eps, hidden, y + (from + t) * hidden);
        }
    }
    return 0;
}
