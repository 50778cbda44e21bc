// Matrix products of bf16 with sums in fp32, small enough to lie in a core's cache, on processors with bf16 dot products:
// as fast as a library's on large matrices, which on hundreds of small ones are not. Two neighbours along a product's inner
// dimension lie in one 32-bit word, as the processor's dot product takes them: "pairs".
//
// With tiles (AMX) a library's products are faster than these: there this header, and what is built on it, is empty.

#pragma once

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define FATHOM_PRODUCTS

#include <immintrin.h>

#include <vector>

#include "arithmetic.h"

namespace {

using u32 = uint32_t;

constexpr i64 BLOCK = 64;  // positions of a block, and columns of a panel

inline i64 rounded_up(i64 value, i64 step) { return (value + step - 1) / step * step; }

inline __mmask16 first_of(i64 count) { return __mmask16(count >= 16 ? 0xffff : (1u << count) - 1); }

inline __m512 load16(__mmask16 some, const bf16* from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline void store16(__mmask16 some, __m512 values, bf16* to) {  // rounded to nearest
    _mm256_mask_storeu_epi16(to, some, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

inline void convert(const float* from, bf16* to, i64 count) {
    for (i64 i = 0; i < count; i += 16) {
        __mmask16 some = first_of(count - i);
        store16(some, _mm512_maskz_loadu_ps(some, from + i), to + i);
    }
}

// e^x as 2^n 2^f with f within a half of 0 and a polynomial for 2^f (Taylor's, to the sixth power: relative error below 2e-7).
inline __m512 power_of_e(__m512 x) {
    __m512 twos = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    __m512 whole = _mm512_roundscale_ps(twos, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(twos, whole), sum = _mm512_set1_ps(1.5403530e-4f);
    for (float coefficient : {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(coefficient));
    return _mm512_scalef_ps(sum, whole);
}

inline __m512i multiples(i64 step) {
    return _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                              _mm512_set1_epi32(int(step)));
}

// The right-hand side of a product, [pairs, columns]: panels of 64 columns, the last as wide as it must be (a multiple of
// 16), each with its rows one after the other.
struct Panels {
    std::vector<u32> words;
    i64 pairs = 0, columns = 0;

    void resize(i64 new_pairs, i64 new_columns) {
        pairs = new_pairs;
        columns = rounded_up(new_columns, 16);
        words.resize(pairs * columns);
    }
    i64 width(i64 panel) const { return std::min(BLOCK, columns - panel * BLOCK); }
    u32* at(i64 panel, i64 pair) { return words.data() + panel * BLOCK * pairs + pair * width(panel); }
};

// columns = rows of x [rows, width], pairs along the width: for products with x transposed.
inline void pack_transposed(const bf16* x, i64 rows, i64 width, Panels& out) {
    out.resize(width / 2, rounded_up(rows, BLOCK));
    const __m512i lanes = multiples(width / 2);
    for (i64 first = 0; first < out.columns; first += 16) {
        __mmask16 some = first_of(std::max(rows - first, i64(0)));
        const u32* in = reinterpret_cast<const u32*>(x + first * width);
        for (i64 pair = 0; pair < width / 2; ++pair) {
            __m512i column = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), some, lanes, in + pair, 4);
            _mm512_storeu_si512(out.at(first / BLOCK, pair) + first % BLOCK, column);
        }
    }
}

// A panel of what `pack_transposed` packed, as 64 columns of the transposed matrix [width, *] itself.
inline void unpair(Panels& packed, i64 panel, bf16* out, i64 stride) {
    for (i64 pair = 0; pair < packed.pairs; ++pair) {
        const u32* words = packed.at(panel, pair);
        bf16 *even = out + 2 * pair * stride, *odd = even + stride;
        for (i64 i = 0; i < BLOCK; ++i) {
            even[i] = bf16(words[i]);
            odd[i] = bf16(words[i] >> 16);
        }
    }
}

// columns = the width of x [rows, width], pairs along the rows, filled up with zeros to a multiple of 64 rows.
inline void pack_pairs(const bf16* x, i64 rows, i64 width, Panels& out) {
    out.resize(rounded_up(rows, BLOCK) / 2, width);
    for (i64 panel = 0; panel * BLOCK < out.columns; ++panel) {
        i64 wide = out.width(panel), inside = std::min(wide, width - panel * BLOCK);
        for (i64 pair = 0; pair < out.pairs; ++pair) {
            const bf16 *even = x + 2 * pair * width + panel * BLOCK, *odd = even + width;
            u32* to = out.at(panel, pair);
            bool first = 2 * pair < rows, second = 2 * pair + 1 < rows;
            for (i64 i = 0; i < inside; ++i) to[i] = first ? even[i] | (second ? u32(odd[i]) << 16 : 0u) : 0u;
            for (i64 i = inside; i < wide; ++i) to[i] = 0;
        }
    }
}

template <int ROWS, int VECTORS, bool ADD>
inline void tile(const bf16* a, i64 stride_a, const u32* b, float* c, i64 stride_c, i64 pairs) {
    __m512 sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = ADD ? _mm512_loadu_ps(c + r * stride_c + 16 * v) : _mm512_setzero_ps();
    for (i64 pair = 0; pair < pairs; ++pair) {
        __m512i right[VECTORS];
        for (int v = 0; v < VECTORS; ++v) right[v] = _mm512_loadu_si512(b + (pair * VECTORS + v) * 16);
        for (int r = 0; r < ROWS; ++r) {
            int32_t two;
            std::memcpy(&two, a + r * stride_a + 2 * pair, 4);
            __m512i left = _mm512_set1_epi32(two);
            for (int v = 0; v < VECTORS; ++v)
                sums[r][v] = _mm512_dpbf16_ps(sums[r][v], reinterpret_cast<__m512bh>(left), reinterpret_cast<__m512bh>(right[v]));
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) _mm512_storeu_ps(c + r * stride_c + 16 * v, sums[r][v]);
}

template <int VECTORS, bool ADD>
inline void panel_product(const bf16* a, i64 stride_a, const u32* b, float* c, i64 stride_c, i64 rows, i64 pairs) {
    for (; rows >= 6; rows -= 6, a += 6 * stride_a, c += 6 * stride_c)
        tile<6, VECTORS, ADD>(a, stride_a, b, c, stride_c, pairs);
    switch (rows) {
        case 5: return tile<5, VECTORS, ADD>(a, stride_a, b, c, stride_c, pairs);
        case 4: return tile<4, VECTORS, ADD>(a, stride_a, b, c, stride_c, pairs);
        case 3: return tile<3, VECTORS, ADD>(a, stride_a, b, c, stride_c, pairs);
        case 2: return tile<2, VECTORS, ADD>(a, stride_a, b, c, stride_c, pairs);
        case 1: return tile<1, VECTORS, ADD>(a, stride_a, b, c, stride_c, pairs);
    }
}

// c [rows, columns of the panels first_panel to end_panel] = (or, with ADD, +=) a [rows, 2 pairs] times those panels' rows
// from first_pair.
template <bool ADD>
inline void product(const bf16* a, i64 stride_a, Panels& b, i64 first_panel, i64 end_panel, i64 first_pair, i64 pairs, float* c,
             i64 stride_c, i64 rows) {
    for (i64 panel = first_panel; panel < end_panel; ++panel, c += BLOCK) {
        const u32* right = b.at(panel, first_pair);
        switch (b.width(panel) / 16) {
            case 4: panel_product<4, ADD>(a, stride_a, right, c, stride_c, rows, pairs); break;
            case 3: panel_product<3, ADD>(a, stride_a, right, c, stride_c, rows, pairs); break;
            case 2: panel_product<2, ADD>(a, stride_a, right, c, stride_c, rows, pairs); break;
            default: panel_product<1, ADD>(a, stride_a, right, c, stride_c, rows, pairs);
        }
    }
}

inline i64 panels_of(i64 columns) { return (columns + BLOCK - 1) / BLOCK; }

}  // namespace

#endif
