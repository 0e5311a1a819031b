/* CPU kernels for what torch has no fast operator: response normalization, crops, the SGD update, dropout by counter,
   image rescaling, reading a batch from memory maps.

   Plain C without torch's headers. alexnet/_runtime/native.py calls it through ctypes with memory addresses. Every
   operation has an equivalent in torch or Pillow (ResponseNorm, Preprocess, SGD, square.py), which the package uses
   where there is no compiler. The tests compare the two.

   This file includes itself: the arithmetic (the part after #else) is compiled three times, for AVX-512, for AVX2 and
   for every other processor. The loops that OpenMP distributes over the cores are compiled once.
   Maps are channels-last: a pixel's maps are adjacent in memory, and so are the neighboring maps of §3.3. */

#ifndef BODY /* ------------------------------------------------------------------------------- types and helpers */

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef SIGBUS
#include <sys/mman.h>
#include <unistd.h>
#endif
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

typedef struct {
    int width, reach; /* maps of one tower; neighbors on each side, floor(n / 2) of §3.3 */
    float k, alpha, beta;
} Norm;

typedef struct {
    int side, crop; /* sides of the stored image and of the crop, in pixels */
    int mean_side;  /* side; 1 if the mean is one color; crop if every view loses the same mean */
    int bgr, half;  /* output channels in BGR order; output in bf16 instead of float */
    float inverse_scale[3]; /* in the output's channel order, as are the mean and the shifts */
} View;

typedef struct {
    float momentum, decay, rate; /* rate: learning rate, including the layer's factor */
    int rate_in_velocity, nesterov;
} Rule;

typedef struct {
    uint32_t seed_low, seed_high, step, layer; /* with unit and image, Philox's key and counter (philox.py) */
    uint32_t threshold; /* a unit whose random word is below it is dropped */
    float scale; /* of the units that are kept */
    int first_unit, half; /* of x in its layer; bf16 instead of float */
} Draw;

typedef struct {
    int count, taps; /* output pixels; input pixels that contribute to each */
    int *first, *weight; /* [count] first input pixel; [count, taps] weights, in units of 1/2^22 */
} Axis;

static inline float widened(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

/* Round to the nearest bf16, ties to even, as torch does. NaN stays NaN. */
static inline uint16_t narrowed(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

/* s^-3/4 for s > 0, to the last digit of fp32: an estimate from the exponent's bits, within 4.4%, and two steps of the
   series of (1 - e)^-1/4, where e = 1 - s^3 estimate^4. Two square roots and a division take three times as long. */
static inline float inverse_three_quarters(float s) {
    uint32_t bits;
    float y;
    memcpy(&bits, &s, 4);
    bits = 0x6f150000u - (bits - (bits >> 2));
    memcpy(&y, &bits, 4);
    float u = s * y, e = 1 - u * u * (u * y);
    y += y * e * (0.25f + e * (0.15625f + e * 0.1171875f));
    u = s * y, e = 1 - u * u * (u * y);
    return y + y * e * 0.25f;
}

static inline float inverse_power(float s, float beta) {
    return beta == 0.75f ? inverse_three_quarters(s) : powf(s, -beta);
}

typedef uint8_t Sixteen __attribute__((vector_size(16)));
#ifdef __clang__
#define SHUFFLED(bytes, ...) __builtin_shufflevector(bytes, bytes, __VA_ARGS__)
#else
#define SHUFFLED(bytes, ...) __builtin_shuffle(bytes, (Sixteen){__VA_ARGS__})
#endif

typedef uint32_t Four __attribute__((vector_size(16)));

/* Load four bytes into four 32-bit lanes. */
static inline Four four_bytes(const uint8_t *bytes) {
    uint32_t packed;
    memcpy(&packed, bytes, 4);
    return ((Four){packed, packed, packed, packed} >> (Four){0, 8, 16, 24}) & 255;
}

/* Write around the caches. A batch of float crops is larger than the caches, and memory that is written without them,
   in aligned blocks of 16 bytes, need not be read first. */
static inline void past_the_caches(float *to, const float *from, int count) {
#ifdef __SSE2__
    if (count % 4 == 0 && (uintptr_t)to % 16 == 0) {
        for (int i = 0; i < count; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
        return;
    }
#endif
    memcpy(to, from, sizeof(float) * count);
}

/* Make such writes visible to all cores. */
static inline void settle(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

/* A position between two pixels of an axis. share: distance from the first, 0..1. */
typedef struct {
    int before, after;
    float share;
} Between;

/* Input position of output pixel i. An output pixel is `step` input pixels wide, and the first one starts at `begin`.
   Clamped to 0..side - 1. */
static inline Between between(float begin, float step, int i, int side) {
    float at = begin + ((float)i + 0.5f) * step - 0.5f;
    at = at < 0 ? 0 : at > (float)(side - 1) ? (float)(side - 1) : at;
    int before = (int)at;
    return (Between){before, before + 1 < side ? before + 1 : before, at - (float)before};
}

typedef struct {
    void (*norm_forward)(const Norm *, const void *, void *, long rows, int half);
    void (*norm_backward)(const Norm *, const void *, const void *, void *, long rows, int half);
    void (*window)(const View *, const uint8_t *, const float *, const float *, int, void *);
    void (*box)(const View *, const uint8_t *, const float *, const float *, int, const float *, void *);
    void (*update)(const Rule *, float *, float *, const float *, long);
    void (*dropout)(const Draw *, const void *, void *, uint32_t image, long units);
    void (*across)(const Axis *, const uint8_t *, uint8_t *);
    void (*down)(const Axis *, const uint8_t *, int, int, uint8_t *);
} Level;

#define BODY
#if defined(__x86_64__) && defined(__GNUC__)
#define NAME(function) function##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#include "kernels.c"
#undef NAME
#undef TARGET
#define NAME(function) function##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#include "kernels.c"
#undef NAME
#undef TARGET
#endif
#define NAME(function) function##_generic
#define TARGET
#include "kernels.c"
#undef BODY

/* ------------------------------------------------------------------------ choice of the instruction set, and loops */

static const Level *const LEVELS[] = {
    &level_generic,
#if defined(__x86_64__) && defined(__GNUC__)
    &level_avx2,
    &level_avx512,
#endif
};
static const Level *level = &level_generic;

/* The highest level that this processor supports: 0 generic, 1 AVX2, 2 AVX-512. */
int alexnet_highest_level(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

void alexnet_use_level(int number) { level = LEVELS[number]; }

static char last_words[2048];

#ifdef SIGBUS
static void say_and_end(int number) {
    ssize_t written = write(2, last_words, strlen(last_words));
    (void)number, (void)written;
    _exit(2);
}
#endif

/* Set the message to print before exiting with code 2 if a memory-mapped file cannot be read, because it was truncated
   or its disk fails. The operating system reports that by SIGBUS, for which a Python handler would never run. */
void alexnet_last_words(const char *sentence) {
    strncpy(last_words, sentence, sizeof last_words - 1);
#ifdef SIGBUS
    signal(SIGBUS, say_and_end);
#endif
}

enum { SOME = 64 }; /* rows per loop iteration */

/* rows: pixels x towers, each of `norm.width` maps. x, y: float, or bf16 if `half`. */
void alexnet_norm_forward(const Norm *norm, const void *x, void *y, long rows, int half, int threads) {
    long bytes = (long)norm->width * (half ? 2 : 4);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row += SOME) {
        long some = rows - row < SOME ? rows - row : SOME;
        level->norm_forward(norm, (const char *)x + row * bytes, (char *)y + row * bytes, some, half);
    }
}

/* dx from dy and the input x. The sums are computed again, which is cheaper than storing them. */
void alexnet_norm_backward(const Norm *norm, const void *x, const void *dy, void *dx, long rows, int half, int threads) {
    long bytes = (long)norm->width * (half ? 2 : 4);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row += SOME) {
        long some = rows - row < SOME ? rows - row : SOME;
        level->norm_backward(norm, (const char *)x + row * bytes, (const char *)dy + row * bytes,
                             (char *)dx + row * bytes, some, half);
    }
}

/* Crop, mirror, subtract the mean, shift and scale.
   images: [count] addresses of uint8 [side, side, 3]. mean, turned_mean: float [mean_side, mean_side, 3], the second
   mirrored; or NULL, if every view loses the same mean, of mean_side = crop, mirrored or not. places: int64 [count, 2], top and left. mirrored: [count]. shift: float [count, 3]. views: output, [count,
   crop, crop, 3]. */
void alexnet_crops(const View *view, const uint8_t *const *images, const float *mean, const float *turned_mean,
                   const int64_t *places, const uint8_t *mirrored, const float *shift, void *views, long count,
                   int threads) {
    long bytes = (long)view->crop * view->crop * 3 * (view->half ? 2 : 4);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long n = 0; n < count; n++) {
        long top = places[2 * n], left = places[2 * n + 1], from_right = view->side - view->crop - left;
        const float *less = mirrored[n] && turned_mean ? turned_mean : mean;
        if (turned_mean && view->mean_side > 1) less += 3 * (top * view->side + (mirrored[n] ? from_right : left));
        level->window(view, images[n] + 3 * (top * view->side + left), less, shift + 3 * n, mirrored[n],
                      (char *)views + n * bytes);
        settle();
    }
}

/* The same for boxes of any size, rescaled to crop x crop. mean: float [3]. boxes: float [count, 4], top, left, rows,
   columns, in pixels. */
void alexnet_boxes(const View *view, const uint8_t *const *images, const float *mean, const float *boxes,
                   const uint8_t *mirrored, const float *shift, void *views, long count, int threads) {
    long bytes = (long)view->crop * view->crop * 3 * (view->half ? 2 : 4);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long n = 0; n < count; n++) {
        level->box(view, images[n], mean, shift + 3 * n, mirrored[n], boxes + 4 * n, (char *)views + n * bytes);
        settle();
    }
}

void alexnet_update(const Rule *rule, float *w, float *v, const float *g, long count, int threads) {
    enum { STRETCH = 1 << 14 };
#pragma omp parallel for num_threads(threads) schedule(static) if (count > STRETCH)
    for (long first = 0; first < count; first += STRETCH)
        level->update(rule, w + first, v + first, g + first, count - first < STRETCH ? count - first : STRETCH);
}

/* Dropout of x, or of a gradient. x, y: [images, units]. positions: int64 [images], of each image in the batch. */
void alexnet_dropout(const Draw *draw, const void *x, const int64_t *positions, void *y, long images, long units,
                     int threads) {
    long bytes = units * (draw->half ? 2 : 4);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long n = 0; n < images; n++)
        level->dropout(draw, (const char *)x + n * bytes, (char *)y + n * bytes, (uint32_t)positions[n], units);
}

/* Copy images, which lie in memory maps, into one array. If `out` is NULL, only ask the operating system to read them.
   images: [count] addresses of `bytes` bytes each. out: uint8 [count, bytes].
   It is asked for the whole batch at first: from a cold disk this is four times as fast as one page fault at a time.
   Runs on one core: the loader's threads read several batches at once. */
void alexnet_gather(const uint8_t *const *images, long bytes, uint8_t *out, long count) {
#ifdef MADV_WILLNEED
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (long n = 0; n < count; n++) {
        uintptr_t begin = (uintptr_t)images[n] / page * page;
        madvise((void *)begin, (uintptr_t)images[n] + (size_t)bytes - begin, MADV_WILLNEED);
    }
#endif
    for (long n = 0; out && n < count; n++) memcpy(out + n * bytes, images[n], (size_t)bytes);
}

/* The weights for output pixels first ... first + count - 1 when an axis is rescaled from `before` to `after` pixels: a
   triangle filter, as wide as an output pixel or an input pixel, whichever is wider. All output pixels get the same
   number of weights, some of them 0, since the processor predicts loops of one length best. Returns 0 if there is no
   memory. */
static int make_axis(Axis *axis, int before, int after, int first, int count) {
    double scale = (double)before / after, support = scale > 1 ? scale : 1;
    axis->count = count;
    axis->taps = 0;
    for (int i = 0; i < count; i++) {
        double center = (first + i + 0.5) * scale;
        int begin = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
        int taps = (end < before ? end : before) - (begin > 0 ? begin : 0);
        if (taps > axis->taps) axis->taps = taps;
    }
    axis->first = calloc(count * (1 + (size_t)axis->taps), sizeof(int));
    double *share = malloc(sizeof(double) * axis->taps);
    if (!axis->first || !share) return free(share), 0;
    axis->weight = axis->first + count;
    for (int i = 0; i < count; i++) {
        double center = (first + i + 0.5) * scale, sum = 0;
        int begin = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
        if (begin < 0) begin = 0;
        if (end > before) end = before;
        for (int tap = 0; tap < end - begin; tap++) {
            double away = fabs((begin + tap - center + 0.5) / support);
            sum += share[tap] = away < 1 ? 1 - away : 0;
        }
        axis->first[i] = begin + axis->taps > before ? before - axis->taps : begin;
        int *weight = axis->weight + (long)i * axis->taps + (begin - axis->first[i]);
        for (int tap = 0; tap < end - begin; tap++) weight[tap] = (int)(0.5 + share[tap] / sum * (1 << 22));
    }
    free(share);
    return 1;
}

/* Rescale an image from rows x columns to new_rows x new_columns, and compute only the square at (top, left): uint8
   [side, side, 3], followed by one spare byte. Uses Pillow's two passes and integer arithmetic, so the result is equal
   bit for bit. Returns 0, or 1 if there is no memory. Runs on one core: packing rescales many images at once. */
int alexnet_square(const uint8_t *image, int rows, int columns, int new_rows, int new_columns, int top, int left,
                   int side, uint8_t *out) {
    Axis across = {0}, down = {0};
    uint8_t *narrow = NULL, *final = NULL;
    long wide = 3L * columns, width = 3L * side;
    int failed = !make_axis(&across, columns, new_columns, left, side) || !make_axis(&down, rows, new_rows, top, side);
    if (!failed) {
        int first = down.first[0], last = down.first[side - 1] + down.taps;
        /* A pixel is read and written as four bytes, so each buffer has a spare byte. */
        narrow = malloc(width * (last - first) + 1);
        final = malloc(wide + 1);
        failed = !narrow || !final;
        for (int row = first; !failed && row < last; row++) {
            const uint8_t *from = image + row * wide;
            if (row == rows - 1) from = memcpy(final, from, wide);
            level->across(&across, from, narrow + (row - first) * width);
        }
        for (int row = 0; !failed && row < side; row++)
            level->down(&down, narrow + (down.first[row] - first) * width, row, (int)width, out + row * width);
    }
    free(narrow), free(final), free(across.first), free(down.first);
    return failed;
}

/* Sums over all pixels of color times color, RR RG RB GG GB BB: int64 [6], of uint8 [count, 3]. */
void alexnet_color_products(const uint8_t *pixels, long count, int64_t *sums) {
    enum { STRETCH = 1 << 16 }; /* 2^16 products of at most 255^2 fit into 32 bits */
    memset(sums, 0, 6 * sizeof *sums);
    for (long first = 0; first < count; first += STRETCH) {
        uint32_t rr = 0, rg = 0, rb = 0, gg = 0, gb = 0, bb = 0;
        const uint8_t *end = pixels + 3 * (count - first < STRETCH ? count : first + STRETCH);
        for (const uint8_t *pixel = pixels + 3 * first; pixel < end; pixel += 3) {
            uint32_t r = pixel[0], g = pixel[1], b = pixel[2];
            rr += r * r, rg += r * g, rb += r * b, gg += g * g, gb += g * b, bb += b * b;
        }
        sums[0] += rr, sums[1] += rg, sums[2] += rb, sums[3] += gg, sums[4] += gb, sums[5] += bb;
    }
}

#else /* BODY ------------------------------------------------- the arithmetic, compiled for each instruction set */

TARGET static inline float NAME(read)(const void *from, long i, int half) {
    return half ? widened(((const uint16_t *)from)[i]) : ((const float *)from)[i];
}

TARGET static inline void NAME(write)(void *to, long i, float value, int half) {
    if (half) ((uint16_t *)to)[i] = narrowed(value);
    else ((float *)to)[i] = value;
}

/* in[i - reach] + ... + in[i + reach]. */
TARGET static inline float NAME(band)(const float *in, int i, int reach) {
    if (reach == 2) return in[i - 2] + in[i - 1] + in[i] + in[i + 1] + in[i + 2];
    if (reach == 4)
        return in[i - 4] + in[i - 3] + in[i - 2] + in[i - 1] + in[i] + in[i + 1] + in[i + 2] + in[i + 3] + in[i + 4];
    float sum = in[i];
    for (int away = 1; away <= reach; away++) sum += in[i - away] + in[i + away];
    return sum;
}

/* Response normalization of rows. `beta` and `reach` are separate arguments so that the compiler sees the usual values
   as constants. Zeros before and after the squares stand for the missing neighbors of the first and last maps. */
TARGET static inline void NAME(forward_by)(const Norm *norm, const void *restrict x, void *restrict y, long rows,
                                           int half, float beta, int reach) {
    int width = norm->width;
    float k = norm->k, alpha = norm->alpha, padded[width + 2 * reach], *square = padded + reach;
    for (int i = 1; i <= reach; i++) square[-i] = square[width - 1 + i] = 0;
    for (long first = 0; first < rows * width; first += width) {
        for (int i = 0; i < width; i++) {
            float value = NAME(read)(x, first + i, half);
            square[i] = value * value;
        }
        for (int i = 0; i < width; i++) {
            float s = k + alpha * NAME(band)(square, i, reach);
            NAME(write)(y, first + i, NAME(read)(x, first + i, half) * inverse_power(s, beta), half);
        }
    }
}

/* dx_i = dy_i s_i^-beta - 2 alpha beta x_i * sum over neighbors j of dy_j x_j s_j^-(beta + 1). */
TARGET static inline void NAME(backward_by)(const Norm *norm, const void *restrict x, const void *restrict dy,
                                            void *restrict dx, long rows, int half, float beta, int reach) {
    int width = norm->width;
    float k = norm->k, alpha = norm->alpha, factor = -2 * alpha * beta, direct[width];
    float padded[width + 2 * reach], *square = padded + reach;
    float padded_terms[width + 2 * reach], *term = padded_terms + reach;
    for (int i = 1; i <= reach; i++) square[-i] = square[width - 1 + i] = term[-i] = term[width - 1 + i] = 0;
    for (long first = 0; first < rows * width; first += width) {
        for (int i = 0; i < width; i++) {
            float value = NAME(read)(x, first + i, half);
            square[i] = value * value;
        }
        for (int i = 0; i < width; i++) {
            float s = k + alpha * NAME(band)(square, i, reach), power = inverse_power(s, beta);
            direct[i] = NAME(read)(dy, first + i, half) * power;
            term[i] = direct[i] * NAME(read)(x, first + i, half) / s;
        }
        for (int i = 0; i < width; i++) {
            float slope = direct[i] + factor * NAME(read)(x, first + i, half) * NAME(band)(term, i, reach);
            NAME(write)(dx, first + i, slope, half);
        }
    }
}

/* n = 5 (paper) and n = 9 (CIFAR-10 network) with beta = 0.75 as constants, and any other values. */
TARGET static void NAME(norm_forward)(const Norm *norm, const void *x, void *y, long rows, int half) {
    int usual = norm->beta == 0.75f ? norm->reach : 0;
    if (usual == 2 && half) NAME(forward_by)(norm, x, y, rows, 1, 0.75f, 2);
    else if (usual == 2) NAME(forward_by)(norm, x, y, rows, 0, 0.75f, 2);
    else if (usual == 4 && half) NAME(forward_by)(norm, x, y, rows, 1, 0.75f, 4);
    else if (usual == 4) NAME(forward_by)(norm, x, y, rows, 0, 0.75f, 4);
    else NAME(forward_by)(norm, x, y, rows, half, norm->beta, norm->reach);
}

TARGET static void NAME(norm_backward)(const Norm *norm, const void *x, const void *dy, void *dx, long rows, int half) {
    int usual = norm->beta == 0.75f ? norm->reach : 0;
    if (usual == 2 && half) NAME(backward_by)(norm, x, dy, dx, rows, 1, 0.75f, 2);
    else if (usual == 2) NAME(backward_by)(norm, x, dy, dx, rows, 0, 0.75f, 2);
    else if (usual == 4 && half) NAME(backward_by)(norm, x, dy, dx, rows, 1, 0.75f, 4);
    else if (usual == 4) NAME(backward_by)(norm, x, dy, dx, rows, 0, 0.75f, 4);
    else NAME(backward_by)(norm, x, dy, dx, rows, half, norm->beta, norm->reach);
}

TARGET static inline Sixteen NAME(turned)(const uint8_t *bytes, int mirrored, int bgr) {
    Sixteen five;
    memcpy(&five, bytes, 16);
    if (mirrored && bgr) return SHUFFLED(five, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    if (mirrored) return SHUFFLED(five, 15, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2);
    return SHUFFLED(five, 2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 13, 12, 15);
}

/* Copy a row of pixels mirrored, in BGR order, or both. Five pixels at a time are read and written as 16 bytes; the
   next five overwrite the sixteenth byte. The row is always read from left to right, which the processor prefetches
   better. A 16-byte read of the last five pixels could leave the image, so they are copied first. */
TARGET static inline void NAME(turn)(const uint8_t *row, uint8_t *out, int pixels, int mirrored, int bgr) {
    for (int x = 0; x + 5 < pixels; x += 5) {
        Sixteen five = NAME(turned)(row + 3 * x, mirrored, bgr);
        memcpy(out + (mirrored ? 3 * (pixels - x - 5) - 1 : 3 * x), &five, 16);
    }
    int few = pixels < 5 ? pixels : 5, at = 3 * (pixels - few);
    uint8_t edge[16] = {0};
    memcpy(edge, row + at, 3 * (size_t)few);
    Sixteen last = NAME(turned)(edge, mirrored, bgr);
    memcpy(out + (mirrored ? 0 : at), (uint8_t *)&last + (mirrored ? 16 - 3 * few : 0), 3 * (size_t)few);
}

/* The scale and shift of each element of a row; they are the same for all rows of a view. */
TARGET static inline void NAME(prepare)(const View *view, const float *mean, const float *shift, float *scales,
                                        float *shifts) {
    for (int i = 0; i < 3 * view->crop; i++) {
        scales[i] = view->inverse_scale[i % 3];
        shifts[i] = shift[i % 3] - (view->mean_side == 1 ? mean[i % 3] : 0);
    }
}

/* Write row y of a view: (value + shift) * scale. May overwrite `line`. */
TARGET static inline void NAME(finish)(const View *view, float *restrict line, const float *restrict scales,
                                       const float *restrict shifts, int y, void *to) {
    int numbers = 3 * view->crop;
    if (view->half) {
        uint16_t *restrict out = (uint16_t *)to + (long)y * numbers;
        for (int i = 0; i < numbers; i++) out[i] = narrowed((line[i] + shifts[i]) * scales[i]);
    } else {
        for (int i = 0; i < numbers; i++) line[i] = (line[i] + shifts[i]) * scales[i];
        past_the_caches((float *)to + (long)y * numbers, line, numbers);
    }
}

/* One crop, in one pass. The crop starts at `row`, its mean at `mean`. */
TARGET static void NAME(window)(const View *view, const uint8_t *row, const float *mean, const float *shift,
                                int mirrored, void *to) {
    int numbers = 3 * view->crop;
    float scales[numbers], shifts[numbers], line[numbers];
    uint8_t turned[numbers + 1];
    NAME(prepare)(view, mean, shift, scales, shifts);
    for (int y = 0; y < view->crop; y++, row += 3L * view->side) {
        const uint8_t *restrict in = row;
        const float *restrict less = mean + 3L * y * view->mean_side;
        if (mirrored || view->bgr) {
            NAME(turn)(row, turned, view->crop, mirrored, view->bgr);
            in = turned;
        }
        if (view->mean_side > 1) for (int i = 0; i < numbers; i++) line[i] = (float)in[i] - less[i];
        else for (int i = 0; i < numbers; i++) line[i] = (float)in[i];
        NAME(finish)(view, line, scales, shifts, y, to);
    }
}

/* One box of any size, rescaled bilinearly like torch's grid_sample with padding_mode="border": first between two rows,
   then between two columns. The mean is one color. */
TARGET static void NAME(box)(const View *view, const uint8_t *image, const float *mean, const float *shift,
                             int mirrored, const float *box, void *to) {
    int crop = view->crop, numbers = 3 * crop, stride = 3 * view->side;
    float scales[numbers], shifts[numbers], line[numbers], share[numbers], rows[stride];
    int near[numbers], far[numbers];
    NAME(prepare)(view, mean, shift, scales, shifts);
    for (int i = 0; i < numbers; i++) {
        Between place = between(box[1], box[3] / crop, mirrored ? crop - 1 - i / 3 : i / 3, view->side);
        int color = view->bgr ? 2 - i % 3 : i % 3;
        near[i] = 3 * place.before + color, far[i] = 3 * place.after + color, share[i] = place.share;
    }
    int first = 3 * between(box[1], box[3] / crop, 0, view->side).before;
    int end = 3 * between(box[1], box[3] / crop, crop - 1, view->side).after + 3;
    for (int y = 0; y < crop; y++) {
        Between place = between(box[0], box[2] / crop, y, view->side);
        const uint8_t *restrict above = image + (long)place.before * stride;
        const uint8_t *restrict below = image + (long)place.after * stride;
        for (int i = first; i < end; i++) rows[i] = above[i] + place.share * (float)(below[i] - above[i]);
        for (int i = 0; i < numbers; i++) line[i] = rows[near[i]] + share[i] * (rows[far[i]] - rows[near[i]]);
        NAME(finish)(view, line, scales, shifts, y, to);
    }
}

/* The update rule of §5 or of PyTorch, in one pass over weights, velocity and gradient. */
TARGET static void NAME(update)(const Rule *rule, float *restrict w, float *restrict v, const float *restrict g,
                                long count) {
    float momentum = rule->momentum, decay = rule->decay, rate = rule->rate;
    float of_slope = rule->nesterov ? rate : 0, of_velocity = rule->nesterov ? rate * momentum : rate;
    if (rule->rate_in_velocity) {
        for (long i = 0; i < count; i++) {
            v[i] = momentum * v[i] - decay * rate * w[i] - rate * g[i];
            w[i] += v[i];
        }
    } else {
        for (long i = 0; i < count; i++) {
            float slope = g[i] + decay * w[i];
            v[i] = momentum * v[i] + slope;
            w[i] -= of_slope * slope + of_velocity * v[i];
        }
    }
}

/* Rescale one row. A pixel's three colors and an unused fourth byte share one register. */
TARGET static inline void NAME(across_by)(const Axis *axis, const uint8_t *row, uint8_t *out, int taps) {
    const uint32_t *weight = (const uint32_t *)axis->weight;
    for (int x = 0; x < axis->count; x++, weight += taps) {
        const uint8_t *pixel = row + 3L * axis->first[x];
        Four sum = {1 << 21, 1 << 21, 1 << 21, 1 << 21}; /* half of 2^22: rounds to the nearest */
        for (int tap = 0; tap < taps; tap++) sum += four_bytes(pixel + 3 * tap) * weight[tap];
        sum >>= 22;
        Sixteen bytes = (Sixteen)sum;
        bytes = SHUFFLED(bytes, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        memcpy(out + 3 * x, &bytes, 4);
    }
}

TARGET static void NAME(across)(const Axis *axis, const uint8_t *row, uint8_t *out) {
    switch (axis->taps) { /* the usual numbers as constants, so that the compiler unrolls the loops */
        case 2: NAME(across_by)(axis, row, out, 2); break;
        case 3: NAME(across_by)(axis, row, out, 3); break;
        case 4: NAME(across_by)(axis, row, out, 4); break;
        case 5: NAME(across_by)(axis, row, out, 5); break;
        default: NAME(across_by)(axis, row, out, axis->taps);
    }
}

/* Compute output row y from the input rows that contribute to it. */
TARGET static void NAME(down)(const Axis *axis, const uint8_t *rows, int y, int width, uint8_t *out) {
    enum { STRETCH = 256 };
    const int *weight = axis->weight + (long)y * axis->taps;
    for (int first = 0; first < width; first += STRETCH) {
        int many = width - first < STRETCH ? width - first : STRETCH;
        int32_t sum[STRETCH];
        for (int i = 0; i < many; i++) sum[i] = 1 << 21;
        for (int tap = 0; tap < axis->taps; tap++) {
            const uint8_t *row = rows + (long)tap * width + first;
            int32_t share = weight[tap];
            for (int i = 0; i < many; i++) sum[i] += row[i] * share;
        }
        for (int i = 0; i < many; i++) out[first + i] = (uint8_t)(sum[i] >> 22);
    }
}

/* One image. Philox gives four units the four words of one counter; GROUPS counters are computed side by side. */
TARGET static void NAME(dropout)(const Draw *draw, const void *x, void *y, uint32_t image, long units) {
    enum { GROUPS = 16, ROUNDS = 10 };
    uint32_t words[4][GROUPS];
    long end = draw->first_unit + units;
    for (long group = draw->first_unit / 4; 4 * group < end; group += GROUPS) {
        for (int g = 0; g < GROUPS; g++) {
            uint32_t c0 = (uint32_t)(group + g), c1 = image, c2 = draw->layer, c3 = draw->seed_high;
            uint32_t k0 = draw->seed_low, k1 = draw->step;
            for (int round = 0; round < ROUNDS; round++) {
                uint64_t even = (uint64_t)0xD2511F53u * c0, odd = (uint64_t)0xCD9E8D57u * c2;
                c0 = (uint32_t)(odd >> 32) ^ c1 ^ k0, c1 = (uint32_t)odd;
                c2 = (uint32_t)(even >> 32) ^ c3 ^ k1, c3 = (uint32_t)even;
                k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
            }
            words[0][g] = c0, words[1][g] = c1, words[2][g] = c2, words[3][g] = c3;
        }
        for (int i = 0; i < 4 * GROUPS; i++) {
            long unit = 4 * group + i - draw->first_unit;
            if (unit < 0 || unit >= units) continue;
            float factor = words[i % 4][i / 4] >= draw->threshold ? draw->scale : 0; /* times NaN, it stays NaN */
            NAME(write)(y, unit, NAME(read)(x, unit, draw->half) * factor, draw->half);
        }
    }
}

static const Level NAME(level) = {NAME(norm_forward), NAME(norm_backward), NAME(window), NAME(box), NAME(update),
                                  NAME(dropout),      NAME(across),        NAME(down)};

#endif
