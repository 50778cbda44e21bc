// Causal attention within documents, a head of a row at a time: every product and what lies between them in one pass over
// blocks that stay in the core's cache.
//
// T positions, H width of a query and a key, C width of a value.

#include "products.h"

#ifdef FATHOM_PRODUCTS

#include <omp.h>

namespace {

// What one thread needs for one head; kept from head to head.
struct Room {
    Panels first, second, third, fourth, fifth, block;
    std::vector<float> scores, slopes, result, dq;
    std::vector<bf16> left, right, turned, d_out;
};

float largest_of(const float* x, i64 count) {
    __m512 largest[4];
    for (__m512& one : largest) one = _mm512_set1_ps(-INFINITY);
    for (i64 i = 0; i < count; i += 64)
        for (int v = 0; v < 4; ++v) {
            __mmask16 some = first_of(std::max(count - i - 16 * v, i64(0)));
            largest[v] = _mm512_mask_max_ps(largest[v], some, largest[v], _mm512_maskz_loadu_ps(some, x + i + 16 * v));
        }
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3])));
}

// x = e^((x - largest) scale), in place; their sum.
float powers(float* x, i64 count, float largest, float scale) {
    __m512 sum = _mm512_setzero_ps(), top = _mm512_set1_ps(largest), by = _mm512_set1_ps(scale);
    for (i64 i = 0; i < count; i += 16) {
        __mmask16 some = first_of(count - i);
        __m512 power = power_of_e(_mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(some, x + i), top), by));
        _mm512_mask_storeu_ps(x + i, some, power);
        sum = _mm512_mask_add_ps(sum, some, sum, power);
    }
    return _mm512_reduce_add_ps(sum);
}

// Scores, made again, and gradients of probabilities into probabilities and gradients of scores, both in place:
// p = e^(s scale - log_sum), ds = p (dp - delta) scale.
void slopes_of_scores(float* s, float* d, const float* log_sum, const float* delta, i64 count, float scale) {
    __m512 by = _mm512_set1_ps(scale);
    for (i64 i = 0; i < count; i += 16) {
        __mmask16 some = first_of(count - i);
        __m512 logs = _mm512_maskz_loadu_ps(some, log_sum + i), mean = _mm512_maskz_loadu_ps(some, delta + i);
        __m512 power = power_of_e(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(some, s + i), by, logs));
        __m512 slope = _mm512_mul_ps(_mm512_mul_ps(power, _mm512_sub_ps(_mm512_maskz_loadu_ps(some, d + i), mean)), by);
        _mm512_mask_storeu_ps(s + i, some, power);
        _mm512_mask_storeu_ps(d + i, some, slope);
    }
}

// ---- forward -----------------------------------------------------------------------------------------------------

void forward_head(const bf16* q, const bf16* k, const bf16* v, const i64* starts, bf16* out, i64 stride_out, float* log_sum,
                  i64 T, i64 H, i64 C, float scale, Room& room) {
    Panels &keys = room.first, &values = room.second;
    pack_transposed(k, T, H, keys);
    pack_pairs(v, T, C, values);
    i64 all = rounded_up(T, BLOCK), wide = values.columns;
    room.scores.resize(BLOCK * all);
    room.left.resize(BLOCK * all);
    room.result.resize(BLOCK * wide);
    float inverse[BLOCK];
    for (i64 begin = 0; begin < T; begin += BLOCK) {
        i64 rows = std::min(BLOCK, T - begin), first = starts[begin] / BLOCK * BLOCK, width = begin + BLOCK - first;
        float* scores = room.scores.data();
        bf16* probabilities = room.left.data();
        product<false>(q + begin * H, H, keys, first / BLOCK, begin / BLOCK + 1, 0, H / 2, scores, width, rows);
        for (i64 r = 0; r < rows; ++r) {
            bf16* p = probabilities + r * width;
            i64 from = starts[begin + r] - first, to = begin + r + 1 - first;
            float *s = scores + r * width + from, largest = largest_of(s, to - from);
            float sum = powers(s, to - from, largest, scale);
            std::memset(p, 0, from * sizeof(bf16));
            convert(s, p + from, to - from);
            std::memset(p + to, 0, (width - to) * sizeof(bf16));
            inverse[r] = 1.0f / sum;
            log_sum[begin + r] = largest * scale + std::log(sum);
        }
        product<false>(probabilities, width, values, 0, panels_of(wide), first / 2, width / 2, room.result.data(), wide, rows);
        for (i64 r = 0; r < rows; ++r) {
            float* values_of_one = room.result.data() + r * wide;
            for (i64 i = 0; i < C; ++i) values_of_one[i] *= inverse[r];
            convert(values_of_one, out + (begin + r) * stride_out, C);
        }
    }
}

// ---- backward ----------------------------------------------------------------------------------------------------

// A block of keys at a time, with the queries that see it: scores are made again, transposed, so that what the gradients of
// keys and values are products of lies row by row.
void backward_head(const bf16* q, const bf16* k, const bf16* v, const bf16* d_out, const bf16* out, i64 stride_out,
                   const float* log_sum, const i64* starts, bf16* dq, float* dk, float* dv, i64 T, i64 H, i64 C, float scale,
                   Room& room) {
    i64 all = rounded_up(T, BLOCK);
    std::vector<float> delta(all);
    room.d_out.resize(T * C);
    for (i64 t = 0; t < T; ++t) {
        const bf16 *d = d_out + t * stride_out, *o = out + t * stride_out;
        float dot = 0;
        for (i64 i = 0; i < C; ++i) dot += load(d[i]) * load(o[i]);
        delta[t] = dot;
        std::memcpy(room.d_out.data() + t * C, d, C * sizeof(bf16));
    }
    Panels &queries = room.first, &slopes = room.second, &query_pairs = room.third, &slope_pairs = room.fourth, &keys = room.fifth;
    pack_transposed(k, T, H, keys);
    pack_transposed(q, T, H, queries);
    pack_transposed(room.d_out.data(), T, C, slopes);
    pack_pairs(q, T, H, query_pairs);
    pack_pairs(room.d_out.data(), T, C, slope_pairs);
    room.scores.resize(BLOCK * all);
    room.slopes.resize(BLOCK * all);
    room.left.resize(BLOCK * all);
    room.right.resize(BLOCK * all);
    room.turned.resize(H * BLOCK);
    room.result.resize(BLOCK * std::max(query_pairs.columns, slope_pairs.columns));
    i64 stride_dq = all + 16;  // rows a power of two apart would share few places in the cache
    room.dq.assign(H * stride_dq, 0.0f);
    i64 past = 0;  // queries from here on begin after the key block's last key
    for (i64 begin = 0; begin < T; begin += BLOCK) {
        i64 rows = std::min(BLOCK, T - begin), even = rounded_up(rows, 2);
        past = std::max(past, begin);
        while (past < T && starts[past] < begin + rows) ++past;
        i64 width = rounded_up(past - begin, BLOCK), first = begin / BLOCK, end = first + width / BLOCK;
        float *scores = room.scores.data(), *d_scores = room.slopes.data();
        product<false>(k + begin * H, H, queries, first, end, 0, H / 2, scores, width, rows);
        product<false>(v + begin * C, C, slopes, first, end, 0, C / 2, d_scores, width, rows);
        bf16 *p = room.left.data(), *ds = room.right.data();
        std::memset(p, 0, even * width * sizeof(bf16));
        std::memset(ds, 0, even * width * sizeof(bf16));
        for (i64 r = 0, to = 0; r < rows; ++r) {  // queries r to `to` see key r; none of them begins after it
            to = std::max(to, r);
            while (to < past - begin && starts[begin + to] <= begin + r) ++to;
            float *s = scores + r * width, *d = d_scores + r * width;
            slopes_of_scores(s + r, d + r, log_sum + begin + r, delta.data() + begin + r, to - r, scale);
            convert(s + r, p + r * width + r, to - r);
            convert(d + r, ds + r * width + r, to - r);
        }
        i64 query_panels = panels_of(query_pairs.columns), value_panels = panels_of(slope_pairs.columns);
        product<false>(p, width, slope_pairs, 0, value_panels, begin / 2, width / 2, room.result.data(), slope_pairs.columns, rows);
        for (i64 r = 0; r < rows; ++r) std::memcpy(dv + (begin + r) * C, room.result.data() + r * slope_pairs.columns, C * 4);
        product<false>(ds, width, query_pairs, 0, query_panels, begin / 2, width / 2, room.result.data(), query_pairs.columns, rows);
        for (i64 r = 0; r < rows; ++r) std::memcpy(dk + (begin + r) * H, room.result.data() + r * query_pairs.columns, H * 4);
        // dq transposed [H, T] += k transposed [H, rows] times ds [rows, queries]
        pack_pairs(ds, even, width, room.block);
        unpair(keys, first, room.turned.data(), BLOCK);
        product<true>(room.turned.data(), BLOCK, room.block, 0, width / BLOCK, 0, even / 2, room.dq.data() + begin, stride_dq, H);
    }
    std::vector<float> row(rounded_up(H, 16));
    const __m512i lanes = multiples(stride_dq);
    for (i64 t = 0; t < T; ++t) {
        for (i64 h = 0; h < H; h += 16) {
            __mmask16 some = first_of(H - h);
            const float* in = room.dq.data() + h * stride_dq + t;
            _mm512_storeu_ps(row.data() + h, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some, lanes, in, 4));
        }
        convert(row.data(), dq + t * H, H);
    }
}

}  // namespace

extern "C" {

// Packed heads q, k [B, N, T, H] and v [B, N, T, C]; starts [B, T] is where each position's document begins, and never falls
// along a row; out [B, T, N, C]; log_sum [B, N, T]. H and C are even.
void attention(const bf16* q, const bf16* k, const bf16* v, const i64* starts, bf16* out, float* log_sum, i64 B, i64 N,
               i64 T, i64 H, i64 C, float scale) {
#pragma omp parallel
    {
        Room room;
#pragma omp for schedule(static)
        for (i64 head = 0; head < B * N; ++head) {
            i64 b = head / N, n = head % N;
            forward_head(q + head * T * H, k + head * T * H, v + head * T * C, starts + b * T, out + (b * T * N + n) * C, N * C,
                         log_sum + head * T, T, H, C, scale, room);
        }
    }
}

// d_out like out; dq packed like q; dk and dv packed, in fp32.
void attention_backward(const bf16* q, const bf16* k, const bf16* v, const bf16* d_out, const bf16* out,
                        const float* log_sum, const i64* starts, bf16* dq, float* dk, float* dv, i64 B, i64 N, i64 T, i64 H,
                        i64 C, float scale) {
#pragma omp parallel
    {
        Room room;
#pragma omp for schedule(static)
        for (i64 head = 0; head < B * N; ++head) {
            i64 b = head / N, n = head % N, of_head = head * T, of_row = (b * T * N + n) * C;
            backward_head(q + of_head * H, k + of_head * H, v + of_head * C, d_out + of_row, out + of_row, N * C,
                          log_sum + of_head, starts + b * T, dq + of_head * H, dk + of_head * H, dv + of_head * C, T, H, C,
                          scale, room);
        }
    }
}

}  // extern "C"

#endif
