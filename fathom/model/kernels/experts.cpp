// Routed experts, one after the other: each one's rows gathered, multiplied and passed through SwiGLU in chunks that stay in
// the core's cache.
//
// D hidden_size, F width of an expert, S rows sorted by expert. An expert's matrices are gate and up [F, D] and down [D, F].

#include "products.h"

#ifdef FATHOM_PRODUCTS

#include <omp.h>

namespace {

constexpr i64 CHUNK = 512;  // rows at a time

struct Room {
    Panels gate, up, down, rows, slopes;
    std::vector<bf16> x, dy, h, d_gate, d_up, turned;
    std::vector<float> gates, ups, wide, sums_gate, sums_up, sums_down;
};

void gather(const bf16* x, const i64* tokens, i64 rows, i64 width, std::vector<bf16>& out) {
    out.resize(rows * width);
    for (i64 r = 0; r < rows; ++r) std::memcpy(out.data() + r * width, x + tokens[r] * width, width * sizeof(bf16));
}

__m512 sigmoid16(__m512 x) {
    __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, power_of_e(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// out [rows, columns of b] = a [rows, 2 pairs] b.
template <bool ADD>
void whole_product(const bf16* a, i64 stride, Panels& b, float* out, i64 rows) {
    product<ADD>(a, stride, b, 0, panels_of(b.columns), 0, b.pairs, out, b.columns, rows);
}

void convert_rows(const float* from, i64 stride, bf16* to, i64 stride_to, i64 rows, i64 width) {
    for (i64 r = 0; r < rows; ++r) convert(from + r * stride, to + r * stride_to, width);
}

// sums [width, columns of `rows_pairs`] += a transposed [width, rows] times rows_pairs.
void add_transposed(const std::vector<bf16>& a, i64 rows, i64 width, Panels& rows_pairs, std::vector<float>& sums, Room& room) {
    pack_transposed(a.data(), rows, width, room.slopes);
    i64 long_rows = room.slopes.columns;
    room.turned.resize(width * long_rows);
    for (i64 panel = 0; panel < panels_of(long_rows); ++panel)
        unpair(room.slopes, panel, room.turned.data() + panel * BLOCK, long_rows);
    whole_product<true>(room.turned.data(), long_rows, rows_pairs, sums.data(), width);
}

void expert_forward(const bf16* x, const i64* tokens, const float* weights, const bf16* gate, const bf16* up, const bf16* down,
                    bf16* gate_up, bf16* y, i64 count, i64 D, i64 F, Room& room) {
    pack_transposed(gate, F, D, room.gate);
    pack_transposed(up, F, D, room.up);
    pack_transposed(down, D, F, room.down);
    i64 wide = room.gate.columns, hidden = room.down.columns;
    room.gates.resize(CHUNK * wide);
    room.ups.resize(CHUNK * wide);
    room.wide.resize(CHUNK * hidden);
    room.h.resize(CHUNK * F);
    for (i64 begin = 0; begin < count; begin += CHUNK) {
        i64 rows = std::min(CHUNK, count - begin);
        gather(x, tokens + begin, rows, D, room.x);
        whole_product<false>(room.x.data(), D, room.gate, room.gates.data(), rows);
        whole_product<false>(room.x.data(), D, room.up, room.ups.data(), rows);
        for (i64 r = 0; r < rows; ++r) {
            float *g = room.gates.data() + r * wide, *u = room.ups.data() + r * wide;
            bf16* saved = gate_up + (begin + r) * 2 * F;
            convert(g, saved, F);
            convert(u, saved + F, F);
            __m512 weight = _mm512_set1_ps(weights[begin + r]);
            for (i64 i = 0; i < F; i += 16) {  // what lies between F and `wide` is nothing but zeros
                __m512 one = _mm512_loadu_ps(g + i);
                __m512 value = _mm512_mul_ps(_mm512_mul_ps(one, sigmoid16(one)), _mm512_loadu_ps(u + i));
                _mm512_storeu_ps(g + i, _mm512_mul_ps(value, weight));
            }
            convert(g, room.h.data() + r * F, F);
        }
        whole_product<false>(room.h.data(), F, room.down, room.wide.data(), rows);
        convert_rows(room.wide.data(), hidden, y + begin * D, D, rows, D);
    }
}

void expert_backward(const bf16* x, const bf16* dy, const i64* tokens, const float* weights, const bf16* gate, const bf16* up,
                     const bf16* down, const bf16* gate_up, bf16* dx, float* d_weights, bf16* d_gate, bf16* d_up, bf16* d_down,
                     i64 count, i64 D, i64 F, Room& room) {
    pack_pairs(gate, F, D, room.gate);
    pack_pairs(up, F, D, room.up);
    pack_pairs(down, D, F, room.down);
    i64 wide = room.down.columns, hidden = room.gate.columns;
    room.gates.resize(CHUNK * wide);
    room.wide.resize(CHUNK * hidden);
    for (std::vector<bf16>* made : {&room.h, &room.d_gate, &room.d_up}) made->assign(CHUNK * room.gate.pairs * 2, 0);
    for (std::vector<float>* sums : {&room.sums_gate, &room.sums_up}) sums->assign(F * hidden, 0.0f);
    room.sums_down.assign(D * wide, 0.0f);
    for (i64 begin = 0; begin < count; begin += CHUNK) {
        i64 rows = std::min(CHUNK, count - begin);
        gather(x, tokens + begin, rows, D, room.x);
        gather(dy, tokens + begin, rows, D, room.dy);
        product<false>(room.dy.data(), D, room.down, 0, panels_of(wide), 0, D / 2, room.gates.data(), wide, rows);
        for (i64 r = 0; r < rows; ++r) {
            const float* dh = room.gates.data() + r * wide;
            const bf16 *gates = gate_up + (begin + r) * 2 * F, *ups = gates + F;
            bf16 *h = room.h.data() + r * F, *dg = room.d_gate.data() + r * F, *du = room.d_up.data() + r * F;
            __m512 weight = _mm512_set1_ps(weights[begin + r]), one = _mm512_set1_ps(1.0f), dot = _mm512_setzero_ps();
            for (i64 i = 0; i < F; i += 16) {
                __mmask16 some = first_of(F - i);
                __m512 g = load16(some, gates + i), u = load16(some, ups + i), slope = _mm512_maskz_loadu_ps(some, dh + i);
                __m512 s = sigmoid16(g), silu = _mm512_mul_ps(g, s), value = _mm512_mul_ps(silu, u);
                dot = _mm512_fmadd_ps(slope, value, dot);
                __m512 scaled = _mm512_mul_ps(slope, weight);
                __m512 rise = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
                store16(some, _mm512_mul_ps(value, weight), h + i);
                store16(some, _mm512_mul_ps(scaled, _mm512_mul_ps(u, rise)), dg + i);
                store16(some, _mm512_mul_ps(scaled, silu), du + i);
            }
            d_weights[begin + r] = _mm512_reduce_add_ps(dot);
        }
        product<false>(room.d_gate.data(), F, room.gate, 0, panels_of(hidden), 0, F / 2, room.wide.data(), hidden, rows);
        product<true>(room.d_up.data(), F, room.up, 0, panels_of(hidden), 0, F / 2, room.wide.data(), hidden, rows);
        convert_rows(room.wide.data(), hidden, dx + begin * D, D, rows, D);
        pack_pairs(room.x.data(), rows, D, room.rows);
        add_transposed(room.d_gate, rows, F, room.rows, room.sums_gate, room);
        add_transposed(room.d_up, rows, F, room.rows, room.sums_up, room);
        pack_pairs(room.h.data(), rows, F, room.rows);
        add_transposed(room.dy, rows, D, room.rows, room.sums_down, room);
    }
    convert_rows(room.sums_gate.data(), hidden, d_gate, D, F, D);
    convert_rows(room.sums_up.data(), hidden, d_up, D, F, D);
    convert_rows(room.sums_down.data(), wide, d_down, F, D, F);
}

std::vector<i64> first_rows(const i64* counts, i64 E) {
    std::vector<i64> first(E + 1, 0);
    for (i64 e = 0; e < E; ++e) first[e + 1] = first[e] + counts[e];
    return first;
}

}  // namespace

extern "C" {

// Rows sorted by expert: row s is token tokens[s] with weight weights[s]; expert e has counts[e] of them. gate_up [S, 2 F] is
// kept for the way back; y [S, D]. D and F are even.
void experts(const bf16* x, const i64* tokens, const float* weights, const i64* counts, const bf16* gate, const bf16* up,
             const bf16* down, bf16* gate_up, bf16* y, i64 E, i64 D, i64 F) {
    const std::vector<i64> first = first_rows(counts, E);
#pragma omp parallel
    {
        Room room;
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; ++e)
            if (counts[e])
                expert_forward(x, tokens + first[e], weights + first[e], gate + e * F * D, up + e * F * D, down + e * D * F,
                               gate_up + first[e] * 2 * F, y + first[e] * D, counts[e], D, F, room);
    }
}

// dy like x; dx [S, D]; d_weights [S]; the gradients of the matrices are exactly zero for an expert without rows.
void experts_backward(const bf16* x, const bf16* dy, const i64* tokens, const float* weights, const i64* counts,
                      const bf16* gate, const bf16* up, const bf16* down, const bf16* gate_up, bf16* dx, float* d_weights,
                      bf16* d_gate, bf16* d_up, bf16* d_down, i64 E, i64 D, i64 F) {
    const std::vector<i64> first = first_rows(counts, E);
#pragma omp parallel
    {
        Room room;
#pragma omp for schedule(dynamic)
        for (i64 e = 0; e < E; ++e)
            expert_backward(x, dy, tokens + first[e], weights + first[e], gate + e * F * D, up + e * F * D, down + e * D * F,
                            gate_up + first[e] * 2 * F, dx + first[e] * D, d_weights + first[e], d_gate + e * F * D,
                            d_up + e * F * D, d_down + e * D * F, counts[e], D, F, room);
    }
}

}  // extern "C"

#endif
