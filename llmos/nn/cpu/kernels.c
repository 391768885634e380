/* The inner loops of a step of generation, for a CPU: products with weights of 8 bits, and attention over blocks.

   Compiled where there is a C compiler; nn/cpu/cpu_kernels.py says how, and what is done where there is none. Every function
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
#if defined(__AVX2__) && defined(__F16C__)
#define HAS_HALVES 1
#else
#define HAS_HALVES 0
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define DOT _mm256_dpbusd_epi32
#elif defined(__AVXVNNI__)
#define DOT _mm256_dpbusd_avx_epi32
#endif

/* A function of its own, not compiled once more for what one caller always gives it: so its bits are the same wherever
   it is called. */
#if defined(__clang__)
#define ALONE __attribute__((noinline))
#else
#define ALONE __attribute__((noinline, noclone))
#endif

/* Outputs side by side, inputs of one output side by side, rows computed together, rows that share a panel while it is in
   the cache, inputs that share a scale, those that do where weights have 4 bits, and how many blocks of these to fetch ahead. */
enum { PANEL = 16, GROUP = 4, TILE = 4, ROWS = 128, BLOCK = 64, FINE = 32, AHEAD = 8 };

static long up(long n, long to) { return (n + to - 1) / to * to; }

/* Panels of 16 outputs: 4 inputs of each side by side, then the next 4 inputs; what is lacking to a whole panel is 0.
   Every 64 inputs of an output have a scale, [outs, blocks] as it comes and [panels, blocks, 16] as it is kept. `less` is
   what a block's sum is too high by, for inputs are stored 128 higher than they are. */
void llmos_pack(const int8_t *weight, const float *scale, long outs, long ins, int8_t *packed, float *scales, int32_t *less, int threads) {
    long wide = up(ins, BLOCK), blocks = wide / BLOCK, panels = up(outs, PANEL) / PANEL;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long p = 0; p < panels; p++) {
        memset(packed + p * PANEL * wide, 0, PANEL * wide);
        memset(scales + p * PANEL * blocks, 0, PANEL * blocks * sizeof *scales);
        memset(less + p * PANEL * blocks, 0, PANEL * blocks * sizeof *less);
        for (long o = p * PANEL; o < outs && o < (p + 1) * PANEL; o++)
            for (long i = 0; i < ins; i++) {
                long at = (p * blocks + i / BLOCK) * PANEL + o % PANEL;
                packed[p * PANEL * wide + i / GROUP * PANEL * GROUP + o % PANEL * GROUP + i % GROUP] = weight[o * ins + i];
                scales[at] = scale[o * blocks + i / BLOCK];
                less[at] -= 128 * weight[o * ins + i];
            }
    }
}

/* The furthest that the sums of four of these weights go that are added up at once, to either side, for inputs from 0 to 1:
   two neighbours and the two that stand four behind them. */
long llmos_reach(const int8_t *weight, long outs, long ins, int threads) {
    long furthest = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(max : furthest)
    for (long o = 0; o < outs; o++)
        for (long i = 0; i < ins; i += 2 * GROUP)
            for (long half = 0; half < 2; half++) {
                long rise = 0, fall = 0;
                for (long n = 0; n < 4; n++) {
                    long at = i + half * 2 + n / 2 * GROUP + n % 2, w = at < ins ? weight[o * ins + at] : 0;
                    rise += w > 0 ? w : 0;
                    fall += w < 0 ? -w : 0;
                }
                furthest = rise > furthest ? rise : furthest;
                furthest = fall > furthest ? fall : furthest;
            }
    return furthest;
}

/* Numbers that a float of 16 bits holds (IEEE 754, binary16), as they are kept. */
#if HAS_HALVES
typedef uint16_t Half;
static inline Half halved(float x) { return _cvtss_sh(x, 0); }
static inline float whole_of(Half x) { return _cvtsh_ss(x); }
#else
typedef float Half;
static inline Half halved(float x) { return x; }
static inline float whole_of(Half x) { return x; }
#endif

int llmos_has_halves(void) { return HAS_HALVES; }

/* 32 inputs of a panel's 16 outputs in 4 bits each, 0 to 15: four inputs of 8 outputs lie side by side, the next 8 outputs
   behind them; the next four inputs have the high bits. A weight is `least` and its number times `scale`. */
typedef struct {
    uint8_t codes[FINE / GROUP / 2][2][32];
    Half scale[PANEL], least[PANEL];
} Nibbles;

long llmos_nibbles_bytes(long outs, long ins) { return up(outs, PANEL) / PANEL * (up(ins, FINE) / FINE) * (long)sizeof(Nibbles); }

/* `codes` are [outs, ins / 2], an even input in the low bits; scale and least [outs, blocks]. What lacks to whole blocks of
   inputs and to a whole panel is 0. */
void llmos_pack_nibbles(const uint8_t *codes, const float *scale, const float *least, long outs, long ins, Nibbles *packed, int threads) {
    long blocks = up(ins, FINE) / FINE, panels = up(outs, PANEL) / PANEL;
    memset(packed, 0, llmos_nibbles_bytes(outs, ins));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long p = 0; p < panels; p++)
        for (long o = p * PANEL; o < outs && o < (p + 1) * PANEL; o++)
            for (long b = 0; b < blocks; b++) {
                Nibbles *nibbles = packed + p * blocks + b;
                nibbles->scale[o % PANEL] = halved(scale[o * blocks + b]);
                nibbles->least[o % PANEL] = halved(least[o * blocks + b]);
                for (long i = 0; i < FINE && b * FINE + i < ins; i++) {
                    long at = b * FINE + i;
                    int code = codes[o * ((ins + 1) / 2) + at / 2] >> (at % 2 * 4) & 15;
                    nibbles->codes[i / GROUP / 2][o % PANEL / 8][o % 8 * GROUP + i % GROUP] |= (uint8_t)(code << (i / GROUP % 2 * 4));
                }
            }
}

/* Of a row's 64 inputs as whole numbers: what one of them is worth, and, for weights of 4 bits, of each half, and its sum. */
typedef struct {
    float worth[BLOCK / FINE], sums[BLOCK / FINE];
} Taken;

/* Some inputs as numbers from -127 to 127, stored higher by `zero`, and 0 for what lacks to `wide` of them; returns what one of them is worth, NAN if one of them
   is no number. */
static inline float quantized(const float *x, long count, long wide, uint8_t *q, int zero) {
    int32_t bits = 0; /* of floats without their sign: these are in the order of the floats, what is no number last */
    for (long i = 0; i < count; i++) {
        int32_t a;
        memcpy(&a, x + i, 4);
        a &= 0x7fffffff;
        bits = a > bits ? a : bits;
    }
    if (bits >= 0x7f800000) {
        memset(q, zero, wide);
        return NAN;
    }
    float most, by;
    memcpy(&most, &bits, 4);
    by = most > 1e-36f ? 127.0f / most : 0.0f;
    for (long i = 0; i < count; i++) q[i] = (uint8_t)(zero + (int)(x[i] * by + (x[i] < 0 ? -0.5f : 0.5f)));
    memset(q + count, zero, wide - count);
    return most / 127.0f;
}

#if defined(__AVX2__)
static inline __m256i fours(const uint8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm256_set1_epi32(four);
}

/* A row's next eight inputs of sixteen outputs, w[0] and w[2] the first eight outputs' weights. Sums of 4 products stay
   within 16 bits, for the weights were made so: nn/cpu/int8_linear.py, `REACH`. Without the last line GCC 12 carries sums from
   register to register, which takes 13% longer (Zen 3). */
static inline __attribute__((always_inline)) void add_eight(__m256i *low, __m256i *high, const uint8_t *q, const __m256i w[4]) {
#if defined(DOT)
    *low = DOT(DOT(*low, fours(q), w[0]), fours(q + 4), w[2]);
    *high = DOT(DOT(*high, fours(q), w[1]), fours(q + 4), w[3]);
#else
    __m256i x = fours(q), y = fours(q + 4), ones = _mm256_set1_epi16(1);
    __m256i a = _mm256_maddubs_epi16(x, w[0]), b = _mm256_maddubs_epi16(y, w[2]), c = _mm256_maddubs_epi16(x, w[1]), d = _mm256_maddubs_epi16(y, w[3]);
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(_mm256_add_epi16(a, b), ones));
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(_mm256_add_epi16(c, d), ones));
    __asm__ volatile("" : "+x"(*low), "+x"(*high));
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
static inline __attribute__((always_inline)) void tile(const uint8_t *q, const Taken *taken, long blocks, const int8_t *panel,
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
            for (int r = 0; r < rows; r++) add_eight(&low[r], &high[r], q + r * wide + i, w);
        }
        for (int r = 0; r < rows; r++) {
            __m256 by = _mm256_set1_ps(taken[r * blocks + b].worth[0]);
            left[r] = more(left[r], _mm256_cvtepi32_ps(low[r]), by * _mm256_loadu_ps(scales + b * PANEL));
            right[r] = more(right[r], _mm256_cvtepi32_ps(high[r]), by * _mm256_loadu_ps(scales + b * PANEL + 8));
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(out[r], left[r]);
        _mm256_storeu_ps(out[r] + 8, right[r]);
    }
}

#if HAS_HALVES
/* A panel's 32 inputs as they are multiplied. */
typedef struct {
    __m256i codes[FINE / GROUP][2];
    __m256 scale[2], least[2];
} Open;

static inline void opened(const Nibbles *nibbles, Open *open) {
    const __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < FINE / GROUP / 2; i++)
        for (int h = 0; h < 2; h++) {
            __m256i both = _mm256_loadu_si256((const __m256i *)nibbles->codes[i][h]);
            open->codes[2 * i][h] = _mm256_and_si256(both, low);
            open->codes[2 * i + 1][h] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        }
    for (int h = 0; h < 2; h++) {
        open->scale[h] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(nibbles->scale + 8 * h)));
        open->least[h] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(nibbles->least + 8 * h)));
    }
}

/* A row's next four inputs of sixteen outputs. 32 inputs stay within 16 bits: 8 * 2 * 15 * 127 < 2^15. */
static inline __attribute__((always_inline)) void add_four(__m256i *low, __m256i *high, const uint8_t *q, __m256i first, __m256i second) {
#if defined(DOT)
    *low = DOT(*low, first, fours(q));
    *high = DOT(*high, second, fours(q));
#else
    __m256i x = fours(q);
    *low = _mm256_add_epi16(*low, _mm256_maddubs_epi16(first, x));
    *high = _mm256_add_epi16(*high, _mm256_maddubs_epi16(second, x));
    __asm__ volatile("" : "+x"(*low), "+x"(*high));
#endif
}

static inline __m256 as_floats(__m256i sum) {
#if !defined(DOT)
    sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
#endif
    return _mm256_cvtepi32_ps(sum);
}

static inline __m256 scaled(__m256i sum, const Open *open, int half, __m256 of) {
    return more(_mm256_mul_ps(open->scale[half], as_floats(sum)), open->least[half], of);
}

/* A row's sum of 32 inputs joins its sums of 16 outputs. */
static inline __attribute__((always_inline)) void join(float *sums, __m256i low, __m256i high, const Open *open, const Taken *taken, int half) {
    __m256 by = _mm256_set1_ps(taken->worth[half]), of = _mm256_set1_ps(taken->sums[half]);
    _mm256_storeu_ps(sums, more(_mm256_loadu_ps(sums), by, scaled(low, open, 0, of)));
    _mm256_storeu_ps(sums + 8, more(_mm256_loadu_ps(sums + 8), by, scaled(high, open, 1, of)));
}

/* sums[rows][16] += 32 inputs of rows that lie `wide` apart times a panel. The four rows have names, for a compiler keeps
   these in registers. */
static inline __attribute__((always_inline)) void tile_nibbles(const uint8_t *q, const Taken *taken, long blocks, const Open *open, int half,
                                                               int rows, float sums[][PANEL]) {
    __m256i low, low2, low3, low4, high, high2, high3, high4;
    low = low2 = low3 = low4 = high = high2 = high3 = high4 = _mm256_setzero_si256();
    long wide = blocks * BLOCK;
#pragma GCC unroll 8
    for (int i = 0; i < FINE / GROUP; i++, q += GROUP) {
        __m256i first = open->codes[i][0], second = open->codes[i][1];
        add_four(&low, &high, q, first, second);
        if (rows > 1) add_four(&low2, &high2, q + wide, first, second);
        if (rows > 2) add_four(&low3, &high3, q + 2 * wide, first, second);
        if (rows > 3) add_four(&low4, &high4, q + 3 * wide, first, second);
    }
    join(sums[0], low, high, open, taken, half);
    if (rows > 1) join(sums[1], low2, high2, open, taken + blocks, half);
    if (rows > 2) join(sums[2], low3, high3, open, taken + 2 * blocks, half);
    if (rows > 3) join(sums[3], low4, high4, open, taken + 3 * blocks, half);
}
#endif
#else
static inline void tile(const uint8_t *q, const Taken *taken, long blocks, const int8_t *panel, const float *scales,
                        const int32_t *less, int rows, float out[][PANEL]) {
    long wide = blocks * BLOCK;
    memset(out, 0, rows * sizeof *out);
    for (int r = 0; r < rows; r++)
        for (long b = 0; b < blocks; b++)
            for (int o = 0; o < PANEL; o++) {
                int32_t sum = less[b * PANEL + o];
                for (long i = b * BLOCK; i < (b + 1) * BLOCK; i++)
                    sum += q[r * wide + i] * panel[i / GROUP * PANEL * GROUP + o * GROUP + i % GROUP];
                out[r][o] += (float)sum * (taken[r * blocks + b].worth[0] * scales[b * PANEL + o]);
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

/* A layer's weights as llmos_pack left them, or, where `nibbles` is not NULL, llmos_pack_nibbles; without a bias that is NULL. */
typedef struct {
    const Nibbles *nibbles;
    const int8_t *packed;
    const float *scales;
    const int32_t *less;
    const float *bias;
    int64_t ins, outs;
} Matrix;

/* One row of inputs in whole blocks, for weights of 4 bits or of 8. */
static ALONE void taken_row(const float *x, long ins, int is_signed, uint8_t *q, Taken *taken) {
    long wide = is_signed ? FINE : BLOCK;
    for (long i = 0; i < ins; i += wide, q += wide) {
        Taken *of = taken + i / BLOCK;
        long half = i % BLOCK / FINE;
        of->worth[half] = quantized(x + i, ins - i < wide ? ins - i : wide, wide, q, is_signed ? 0 : 128);
        if (!is_signed) continue;
        int sum = 0;
        for (int n = 0; n < FINE; n++) sum += (int8_t)q[n];
        of->sums[half] = (float)sum;
    }
}

/* A panel's rows of `whole` to where they belong in out[rows, outs], with the bias. */
static inline void put(const float whole[][PANEL], long rows, const Matrix *m, long p, float *out) {
    long outs = m->outs, some = outs - p * PANEL < PANEL ? outs - p * PANEL : PANEL;
    const float *with = m->bias ? m->bias + p * PANEL : 0;
    for (long r = 0; r < rows; r++)
        for (long o = 0; o < some; o++) out[r * outs + p * PANEL + o] = with ? whole[r][o] + with[o] : whole[r][o];
}

/* As `panelled`, of weights of 4 bits, for at most ROWS rows. */
static ALONE void panelled_nibbles(const uint8_t *q, const Taken *taken, long rows, const Matrix *m, long p, float *out) {
    long blocks = up(m->ins, BLOCK) / BLOCK, wide = blocks * BLOCK, pieces = up(m->ins, FINE) / FINE;
    const Nibbles *nibbles = m->nibbles + p * pieces;
    float whole[ROWS][PANEL];
    memset(whole, 0, rows * sizeof *whole);
#if HAS_HALVES
    for (long b = 0; b < pieces; b++) {
        Open open;
        opened(nibbles + b, &open);
        const char *next = (const char *)(nibbles + b + AHEAD);
        for (int line = 0; line < (int)sizeof(Nibbles) / 64; line++) __builtin_prefetch(next + 64 * line);
        for (long r = 0; r < rows; r += TILE) {
            const uint8_t *from = q + r * wide + b * FINE;
            const Taken *of = taken + r * blocks + b / 2;
            long n = rows - r < TILE ? rows - r : TILE;
            if (n == 4) tile_nibbles(from, of, blocks, &open, b % 2, 4, whole + r);
            else if (n == 3) tile_nibbles(from, of, blocks, &open, b % 2, 3, whole + r);
            else if (n == 2) tile_nibbles(from, of, blocks, &open, b % 2, 2, whole + r);
            else tile_nibbles(from, of, blocks, &open, b % 2, 1, whole + r);
        }
    }
#else
    for (long b = 0; b < pieces; b++)
        for (long r = 0; r < rows; r++)
            for (int o = 0; o < PANEL; o++) {
                int sum = 0;
                for (int i = 0; i < FINE; i++)
                    sum += (int8_t)q[r * wide + b * FINE + i] * (nibbles[b].codes[i / GROUP / 2][o / 8][o % 8 * GROUP + i % GROUP] >> (i / GROUP % 2 * 4) & 15);
                const Taken *of = taken + r * blocks + b / 2;
                whole[r][o] += of->worth[b % 2] * (nibbles[b].scale[o] * (float)sum + nibbles[b].least[o] * of->sums[b % 2]);
            }
#endif
    put(whole, rows, m, p, out);
}

/* out[rows, outs] = inputs @ weight.T + bias, for the outputs of one panel. */
static ALONE void panelled(const uint8_t *q, const Taken *taken, long rows, const Matrix *m, long p, float *out) {
    if (m->nibbles) {
        panelled_nibbles(q, taken, rows, m, p, out);
        return;
    }
    long outs = m->outs, blocks = up(m->ins, BLOCK) / BLOCK, wide = blocks * BLOCK;
    const int8_t *panel = m->packed + p * PANEL * wide;
    const float *scale = m->scales + p * blocks * PANEL;
    const int32_t *off = m->less + p * blocks * PANEL;
    for (long r = 0; r < rows; r += TILE) {
        float whole[TILE][PANEL];
        const uint8_t *from = q + r * wide;
        const Taken *by = taken + r * blocks;
        long n = rows - r < TILE ? rows - r : TILE;
        if (n == 4) tile(from, by, blocks, panel, scale, off, 4, whole);
        else if (n == 3) tile(from, by, blocks, panel, scale, off, 3, whole);
        else if (n == 2) tile(from, by, blocks, panel, scale, off, 2, whole);
        else tile(from, by, blocks, panel, scale, off, 1, whole);
        put(whole, n, m, p, out + r * outs);
    }
}

/* The next two are called by every thread of a team: they share the work and go on, together after the first alone. */

/* Rows of inputs for this matrix, and for any other with as many inputs whose weights have as many bits. */
static void take(const float *x, long rows, const Matrix *m, uint8_t *q, Taken *taken) {
    long blocks = up(m->ins, BLOCK) / BLOCK;
#pragma omp for schedule(static)
    for (long r = 0; r < rows; r++) taken_row(x + r * m->ins, m->ins, m->nibbles != 0, q + r * blocks * BLOCK, taken + r * blocks);
}

static void multiplied(const uint8_t *q, const Taken *taken, long rows, const Matrix *m, float *out) {
    long blocks = up(m->ins, BLOCK) / BLOCK, panels = up(m->outs, PANEL) / PANEL, bands = (rows + ROWS - 1) / ROWS;
#pragma omp for schedule(static) collapse(2) nowait
    for (long band = 0; band < bands; band++)
        for (long p = 0; p < panels; p++) {
            long from = band * ROWS, some = rows - from < ROWS ? rows - from : ROWS, at = from * m->outs;
            panelled(q + from * blocks * BLOCK, taken + from * blocks, some, m, p, out + at);
        }
}

/* x += y */
static ALONE void add(float *x, const float *y, long count) {
    for (long i = 0; i < count; i++) x[i] += y[i];
}

/* These two are one thread's own. */

static void take_alone(const float *x, long rows, const Matrix *m, uint8_t *q, Taken *taken) {
    long blocks = up(m->ins, BLOCK) / BLOCK;
    for (long r = 0; r < rows; r++) taken_row(x + r * m->ins, m->ins, m->nibbles != 0, q + r * blocks * BLOCK, taken + r * blocks);
}

static void multiplied_alone(const uint8_t *q, const Taken *taken, long rows, const Matrix *m, float *out) {
    for (long p = 0; p < up(m->outs, PANEL) / PANEL; p++) panelled(q, taken, rows, m, p, out);
}

/* out[rows, outs] = x[rows, ins] @ weight.T + bias. 1: there is no memory for it. */
int llmos_product(const float *x, long rows, const Matrix *matrix, float *out, int threads) {
    long blocks = up(matrix->ins, BLOCK) / BLOCK;
    uint8_t *q = room(rows * blocks * (BLOCK + sizeof(Taken)));
    if (!q) return 1;
    Taken *taken = (Taken *)(q + rows * blocks * BLOCK);
#pragma omp parallel num_threads(threads)
    {
        take(x, rows, matrix, q, taken);
        multiplied(q, taken, rows, matrix, out);
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

/* Keys and values of a pool, [blocks, kv heads, block, d], in float32 or in float16, and what tokens see of them that
   continue their sequences alone: the blocks of token t are `tables` from `starts[t]` on; it sees its positions `first` to
   `last`. */
typedef struct {
    void *keys, *values;
    const int32_t *tables;
    const int64_t *starts, *first, *last;
    int64_t block, is_half;
} Held;

/* So many numbers of a pool from number `at` on: where they are, or made whole in `open`. */
static inline const float *floats_at(const void *pool, long at, long d, int is_half, float *open) {
    if (!is_half) return (const float *)pool + at;
    const Half *from = (const Half *)pool + at;
    long i = 0;
#if HAS_HALVES
    for (; i + 8 <= d; i += 8) _mm256_storeu_ps(open + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
#endif
    for (; i < d; i++) open[i] = whole_of(from[i]);
    return open;
}

static inline void keep(void *pool, long at, const float *x, long d, int is_half) {
    if (!is_half) {
        memcpy((float *)pool + at, x, d * sizeof *x);
        return;
    }
    for (long i = 0; i < d; i++) ((Half *)pool)[at + i] = halved(x[i]);
}

static inline void fetch(const void *pool, long at, long d, int is_half) {
    const char *from = (const char *)pool + at * (is_half ? sizeof(Half) : sizeof(float));
    for (long i = 0; i < d * (long)(is_half ? sizeof(Half) : sizeof(float)); i += 64) __builtin_prefetch(from + i);
}

/* One kv head's queries, [group, d] over one sequence's blocks, `stride` apart, of which its head's begin at `head`: the
   running softmax of Milakov and Gimelshein (2018). `open` has room for d numbers. */
static ALONE void seen(const float *q, long group, long d, const Held *held, long head, long stride, const int32_t *table, long first,
                       long last, float scale, float *score, float *sum, float *open) {
    long block = held->block;
    int is_half = (int)held->is_half;
    float best[group], whole[group];
    for (long g = 0; g < group; g++) best[g] = -INFINITY, whole[g] = 0;
    memset(sum, 0, group * d * sizeof *sum);
    for (long at = first / block; at <= last / block; at++) {
        long here = head + table[at] * stride, next = at < last / block ? head + table[at + 1] * stride : here;
        long from = at == first / block ? first % block : 0, to = at == last / block ? last % block + 1 : block;
        for (long p = from; p < to; p++) {
            fetch(held->keys, next + p * d, d, is_half);
            const float *k = floats_at(held->keys, here + p * d, d, is_half, open);
            for (long g = 0; g < group; g++) {
                float dot = 0;
                for (long i = 0; i < d; i++) dot += q[g * d + i] * k[i];
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
            fetch(held->values, next + p * d, d, is_half);
            const float *v = floats_at(held->values, here + p * d, d, is_half, open);
            for (long g = 0; g < group; g++) {
                float share = score[g * block + p];
                for (long i = 0; i < d; i++) sum[g * d + i] += share * v[i];
            }
        }
    }
    for (long g = 0; g < group; g++)
        for (long i = 0; i < d; i++) sum[g * d + i] /= whole[g];
}

static long joining(const Held *held, long group, long d) { return group * (held->block + 2 * d) + d; }

/* Token t's key and value join its last block, and its queries see the blocks. q, k, v are one kv head's, the queries
   `q_head` apart; out is [group, d]. `work` has the room that `joining` says. */
static ALONE void joined(const Held *held, long t, long h, long group, long kv_heads, long d, const float *q, long q_head,
                                             const float *k, const float *v, float scale, float *out, float *work) {
    long block = held->block, stride = kv_heads * block * d;
    const int32_t *table = held->tables + held->starts[t];
    long to = table[held->last[t] / block] * stride + h * block * d + held->last[t] % block * d;
    float *score = work, *sum = score + group * block, *asked = sum + group * d, *open = asked + group * d;
    keep(held->keys, to, k, d, (int)held->is_half);
    keep(held->values, to, v, d, (int)held->is_half);
    for (long g = 0; g < group; g++) memcpy(asked + g * d, q + g * q_head, d * sizeof *q);
    seen(asked, group, d, held, h * block * d, stride, table, held->first[t], held->last[t], scale, score, sum, open);
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
        float *work = room(joining(held, group, d) * sizeof *work);
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
    long widest = up(most(most(hidden, inner), seen_wide), BLOCK), score = joining(held, group, d);
    long floats = tokens * (2 * hidden + 2 * seen_wide + 2 * kv_wide + 2 * inner) + threads * score;
    float *some = room(floats * sizeof *some + tokens * widest / BLOCK * (BLOCK + sizeof(Taken)));
    if (!some) return 1;
    float *norm = some, *mid = norm + tokens * hidden, *q = mid + tokens * hidden, *seen_ = q + tokens * seen_wide;
    float *k = seen_ + tokens * seen_wide, *v = k + tokens * kv_wide, *gate = v + tokens * kv_wide, *up_ = gate + tokens * inner;
    float *work = up_ + tokens * inner;
    Taken *taken = (Taken *)(work + threads * score);
    uint8_t *bits = (uint8_t *)(taken + tokens * widest / BLOCK);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long t = 0; t < tokens; t++) normed(x + t * hidden, layer->before, layer->before_eps, hidden, norm + t * hidden);
        take(norm, tokens, &layer->query, bits, taken);
        multiplied(bits, taken, tokens, &layer->query, q);
        multiplied(bits, taken, tokens, &layer->key, k);
        multiplied(bits, taken, tokens, &layer->value, v);
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
        take(seen_, tokens, &layer->out, bits, taken);
        multiplied(bits, taken, tokens, &layer->out, mid);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long t = 0; t < tokens; t++) {
            add(mid + t * hidden, x + t * hidden, hidden);
            normed(mid + t * hidden, layer->after, layer->after_eps, hidden, norm + t * hidden);
        }
        take(norm, tokens, &layer->gate, bits, taken);
        multiplied(bits, taken, tokens, &layer->gate, gate);
        multiplied(bits, taken, tokens, &layer->up, up_);
#pragma omp barrier
        gated_together(gate, up_, tokens * inner);
        take(gate, tokens, &layer->down, bits, taken);
        multiplied(bits, taken, tokens, &layer->down, y);
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
    long size = most(headed_room(starts, sequences, d), BAND * (2 * hidden + inner + widest / BLOCK * (sizeof(Taken) + BLOCK) / sizeof(float)));
    float *q = room((4 * tokens * wide + threads * size) * sizeof *q);
    if (!q) return 1;
    float *k = q + tokens * wide, *v = k + tokens * wide, *seen_ = v + tokens * wide;
#pragma omp parallel num_threads(threads)
    {
        float *work = seen_ + tokens * wide + omp_get_thread_num() * size;
        float *sum = work, *mid = sum + BAND * hidden, *between = mid + BAND * hidden;
        Taken *taken = (Taken *)(between + BAND * inner);
        uint8_t *bits = (uint8_t *)(taken + BAND * widest / BLOCK);
#pragma omp for schedule(dynamic)
        for (long band = 0; band < bands; band++) {
            long from = band * BAND, n = tokens - from < BAND ? tokens - from : BAND;
            take_alone(x + from * hidden, n, &layer->query, bits, taken);
            multiplied_alone(bits, taken, n, &layer->query, q + from * wide);
            multiplied_alone(bits, taken, n, &layer->key, k + from * wide);
            multiplied_alone(bits, taken, n, &layer->value, v + from * wide);
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
            take_alone(seen_ + from * wide, n, &layer->out, bits, taken);
            multiplied_alone(bits, taken, n, &layer->out, sum);
            add(sum, x + from * hidden, n * hidden);
            for (long t = 0; t < n; t++) centred(sum + t * hidden, layer->first, layer->first_bias, layer->first_eps, hidden, mid + t * hidden);
            take_alone(mid, n, &layer->widen, bits, taken);
            multiplied_alone(bits, taken, n, &layer->widen, between);
            for (long i = 0; i < n * inner; i += SOME) gelu(between + i, n * inner - i < SOME ? n * inner - i : SOME, between + i);
            take_alone(between, n, &layer->narrow, bits, taken);
            multiplied_alone(bits, taken, n, &layer->narrow, sum);
            add(sum, mid, n * hidden);
            for (long t = 0; t < n; t++) centred(sum + t * hidden, layer->second, layer->second_bias, layer->second_eps, hidden, y + (from + t) * hidden);
        }
    }
    return 0;
}

/* Training in mixed precision: weights of 32 bits, of which the forward pass has a copy in bfloat16, whose gradients are
   bfloat16 too, one from each process that computed a part of the batch. Sums are of fixed blocks, in their order, so
   that they do not depend on the number of threads. */

enum { PORTION = 1 << 15, STRIP = 512 };

static inline float widened(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float whole;
    memcpy(&whole, &bits, sizeof whole);
    return whole;
}

static inline uint16_t narrowed(float x) { /* to the nearest, ties to even; a NaN stays one */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? (uint16_t)(bits >> 16 | 64) : (uint16_t)rounded;
}

static inline void gradient(const uint16_t *const *parts, long count, long from, long n, float *out) {
    for (long i = 0; i < n; i++) out[i] = widened(parts[0][from + i]);
    for (long p = 1; p < count; p++)
        for (long i = 0; i < n; i++) out[i] += widened(parts[p][from + i]);
}

/* The sum of the squares of a gradient that comes in `count` parts of `size` numbers; a negative number: no memory. */
double llmos_squares(const uint16_t *const *parts, long count, long size, int threads) {
    long chunks = (size + PORTION - 1) / PORTION;
    double *sums = malloc(chunks * sizeof *sums), total = 0;
    if (!sums) return -1;
#pragma omp parallel for schedule(static) num_threads(threads) if (chunks > 1)
    for (long c = 0; c < chunks; c++) {
        float g[STRIP];
        double sum = 0;
        for (long from = c * PORTION; from < size && from < (c + 1) * PORTION; from += STRIP) {
            long n = size - from < STRIP ? size - from : STRIP;
            float some = 0;
            gradient(parts, count, from, n, g);
            for (long i = 0; i < n; i++) some += g[i] * g[i];
            sum += some;
        }
        sums[c] = sum;
    }
    for (long c = 0; c < chunks; c++) total += sums[c];
    free(sums);
    return total;
}

/* A step of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on `size` weights, their moments and their copy.
   The gradient is the sum of its parts times `scale`; `first` and `second` are 1 less the powers of the betas. */
void llmos_adamw(float *weight, float *mean, float *square, uint16_t *copy, const uint16_t *const *parts, long count, long size,
                 float scale, float rate, float decay, float beta, float beta_square, float eps, float first, float second, int threads) {
    long chunks = (size + PORTION - 1) / PORTION;
    float kept = 1 - rate * decay, step = rate / first, root = 1 / sqrtf(second);
#pragma omp parallel for schedule(static) num_threads(threads) if (chunks > 1)
    for (long c = 0; c < chunks; c++) {
        float g[STRIP];
        for (long from = c * PORTION; from < size && from < (c + 1) * PORTION; from += STRIP) {
            long n = size - from < STRIP ? size - from : STRIP;
            gradient(parts, count, from, n, g);
            float *w = weight + from, *m = mean + from, *v = square + from;
            uint16_t *to = copy + from;
            for (long i = 0; i < n; i++) {
                float of = g[i] * scale;
                m[i] += (1 - beta) * (of - m[i]);
                v[i] = beta_square * v[i] + (1 - beta_square) * of * of;
                w[i] = w[i] * kept - step * m[i] / (sqrtf(v[i]) * root + eps);
                to[i] = narrowed(w[i]);
            }
        }
    }
}
