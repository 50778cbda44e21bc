// The passes between matrix products, fused, for processors: bf16 in memory, fp32 in registers.
//
// Plain C entry points over raw pointers, so that this file compiles in seconds and needs no headers of torch. Every
// reduction has a fixed order for a given number of threads: the same input gives the same bits.
// Letters as in the Python beside it: B rows, T positions, N heads, H width of a query head, P its rotary part, C width of
// a value head, M tokens, D hidden_size, F expert width, V vocabulary.

#include <cmath>
#include <initializer_list>
#include <vector>

#include <omp.h>

#include "arithmetic.h"

extern "C" {

// ---- RMSNorm -----------------------------------------------------------------------------------------------------

void rms_norm(const bf16* x, const float* weight, bf16* y, float* inverse_rms, i64 rows, i64 width, float epsilon) {
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < rows; ++row) {
        const bf16* in = x + row * width;
        bf16* out = y + row * width;
        float sum = 0;
        for (i64 i = 0; i < width; ++i) sum += load(in[i]) * load(in[i]);
        float scale = 1.0f / std::sqrt(sum / width + epsilon);
        inverse_rms[row] = scale;
        for (i64 i = 0; i < width; ++i) out[i] = store(load(in[i]) * scale * weight[i]);
    }
}

// dx = s (dy w - x s^2 mean(dy w x)), dw = sum over rows of dy x s, with s the inverse rms. dw must come zeroed.
void rms_norm_backward(const bf16* dy, const bf16* x, const float* weight, const float* inverse_rms, bf16* dx, float* dw,
                       i64 rows, i64 width) {
    int threads = omp_get_max_threads();
    std::vector<float> partial(size_t(threads) * width, 0.0f);
#pragma omp parallel num_threads(threads)
    {
        float* mine = partial.data() + size_t(omp_get_thread_num()) * width;
#pragma omp for schedule(static)
        for (i64 row = 0; row < rows; ++row) {
            const bf16 *slope = dy + row * width, *in = x + row * width;
            bf16* out = dx + row * width;
            float scale = inverse_rms[row], dot = 0;
            for (i64 i = 0; i < width; ++i) dot += load(slope[i]) * weight[i] * load(in[i]);
            float pull = dot * scale * scale / width;
            for (i64 i = 0; i < width; ++i) {
                float value = load(in[i]), gradient = load(slope[i]);
                mine[i] += gradient * value * scale;
                out[i] = store(scale * (gradient * weight[i] - value * pull));
            }
        }
    }
    for (int thread = 0; thread < threads; ++thread)
        for (i64 i = 0; i < width; ++i) dw[i] += partial[size_t(thread) * width + i];
}

// ---- A few rows times a matrix -----------------------------------------------------------------------------------

// out[m, o] = sum over i of x[m, i] w[o, i], bound by reading w once; libraries reach a third of that for a single row.
void few_rows(const float* x, const bf16* w, float* out, i64 rows, i64 outputs, i64 inputs) {
#pragma omp parallel for schedule(static)
    for (i64 o = 0; o < outputs; ++o) {
        const bf16* weight = w + o * inputs;
        for (i64 m = 0; m < rows; ++m) {
            const float* in = x + m * inputs;
            float sum = 0;
            for (i64 i = 0; i < inputs; ++i) sum += load(weight[i]) * in[i];
            out[m * outputs + o] = sum;
        }
    }
}

// ---- SwiGLU ------------------------------------------------------------------------------------------------------

// h = silu(gate) * up * scale of the row; row_scale may be null (1). Gate and up lie side by side, [rows, 2 * width].
void swiglu(const bf16* gate_up, const float* row_scale, bf16* h, i64 rows, i64 width) {
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < rows; ++row) {
        float scale = row_scale ? row_scale[row] : 1.0f;
        const bf16 *g = gate_up + row * 2 * width, *u = g + width;
        bf16* out = h + row * width;
        for (i64 i = 0; i < width; ++i) out[i] = store(load(g[i]) * sigmoid(load(g[i])) * load(u[i]) * scale);
    }
}

// Gradients of gate and up, side by side as they are; d_scale [rows] may be null. Made again on the way: h as above.
void swiglu_backward(const bf16* dh, const bf16* gate_up, const float* row_scale, bf16* h, bf16* d_gate_up, float* d_scale,
                     i64 rows, i64 width) {
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < rows; ++row) {
        float scale = row_scale ? row_scale[row] : 1.0f, dot = 0;
        const bf16 *gate = gate_up + row * 2 * width, *up = gate + width;
        bf16 *d_gate = d_gate_up + row * 2 * width, *d_up = d_gate + width;
        bf16* out = h + row * width;
        const bf16* slopes = dh + row * width;
#pragma omp simd reduction(+ : dot)  // six arrays: more than the compiler proves apart by itself
        for (i64 i = 0; i < width; ++i) {
            float g = load(gate[i]), u = load(up[i]), slope = load(slopes[i]), s = sigmoid(g);
            float value = g * s * u;
            dot += slope * value;
            out[i] = store(value * scale);
            d_gate[i] = store(slope * scale * u * s * (1.0f + g * (1.0f - s)));
            d_up[i] = store(slope * scale * g * s);
        }
        if (d_scale) d_scale[row] = dot;
    }
}

// ---- router ------------------------------------------------------------------------------------------------------

static int best_of(const float* values, i64 count) {  // the first of the largest; never out of range, not even for NaN
    i64 best = 0;
    for (i64 i = 1; i < count; ++i)
        if (values[i] > values[best]) best = i;
    return int(best);
}

// Scores [M, E] (sigmoids, or a softmax), the A best experts of each token, if asked within its best `kept` groups, and
// their weights. The bias (may be null) moves the choice alone.
void route(const float* logits, const float* bias, float* scores, i64* experts, float* weights, i64 M, i64 E, i64 A,
           i64 groups, i64 kept, i64 sigmoids, i64 normalize, float scaling) {
    const float out = -INFINITY;
#pragma omp parallel
    {
        std::vector<float> choice(E), group(groups);
        std::vector<char> within(groups);
#pragma omp for schedule(static)
        for (i64 m = 0; m < M; ++m) {
            const float* in = logits + m * E;
            float* score = scores + m * E;
            if (sigmoids) {
                for (i64 e = 0; e < E; ++e) score[e] = sigmoid(in[e]);
            } else {
                float top = in[best_of(in, E)], sum = 0;
                for (i64 e = 0; e < E; ++e) sum += score[e] = fast_exp(in[e] - top);
                for (i64 e = 0; e < E; ++e) score[e] /= sum;
            }
            for (i64 e = 0; e < E; ++e) choice[e] = score[e] + (bias ? bias[e] : 0.0f);
            if (kept < groups) {
                i64 width = E / groups;
                for (i64 g = 0; g < groups; ++g) {
                    float first = out, second = out;
                    for (i64 i = 0; i < width; ++i) {
                        float value = choice[g * width + i];
                        second = std::max(second, std::min(first, value));
                        first = std::max(first, value);
                    }
                    group[g] = first + (sigmoids && width > 1 ? second : 0.0f);
                }
                std::fill(within.begin(), within.end(), 0);
                for (i64 k = 0; k < kept; ++k) {
                    int best = best_of(group.data(), groups);
                    within[best] = 1;
                    group[best] = out;
                }
                for (i64 e = 0; e < E; ++e)
                    if (!within[e / width]) choice[e] = out;
            }
            float sum = 0;
            for (i64 a = 0; a < A; ++a) {
                int best = best_of(choice.data(), E);
                experts[m * A + a] = best;
                sum += weights[m * A + a] = score[best];
                choice[best] = out;
            }
            float factor = normalize ? scaling / (sum + 1e-20f) : scaling;
            for (i64 a = 0; a < A; ++a) weights[m * A + a] *= factor;
        }
    }
}

// d_logits from the slopes of weights [M, A] and of scores [M, E].
void route_backward(const float* scores, const i64* experts, const float* d_weights, const float* d_scores,
                    float* d_logits, i64 M, i64 E, i64 A, i64 sigmoids, i64 normalize, float scaling) {
#pragma omp parallel for schedule(static)
    for (i64 m = 0; m < M; ++m) {
        const float *score = scores + m * E, *slope = d_weights + m * A;
        const i64* chosen = experts + m * A;
        float* d = d_logits + m * E;
        for (i64 e = 0; e < E; ++e) d[e] = d_scores[m * E + e];
        float sum = 1e-20f, dot = 0;
        for (i64 a = 0; a < A; ++a) {
            sum += score[chosen[a]];
            dot += slope[a] * score[chosen[a]];
        }
        for (i64 a = 0; a < A; ++a)
            d[chosen[a]] += normalize ? scaling / sum * (slope[a] - dot / sum) : scaling * slope[a];
        if (sigmoids) {
            for (i64 e = 0; e < E; ++e) d[e] *= score[e] * (1.0f - score[e]);
        } else {
            float mean = 0;
            for (i64 e = 0; e < E; ++e) mean += d[e] * score[e];
            for (i64 e = 0; e < E; ++e) d[e] = score[e] * (d[e] - mean);
        }
    }
}

// The balance loss summed over counted tokens (a sequence's: its tokens' share of choices times E / A, times their mean
// normalised score, summed over experts) and the load [E]. chosen, share [S, E] and load come zeroed; chosen leaves as
// the loss's slope by a token's normalised score.
void balance(const float* scores, const i64* experts, const uint8_t* counted, const i64* sequence, float* chosen,
             float* share, float* load, float* loss, i64 M, i64 E, i64 A, i64 S) {
    std::vector<float> tokens(S, 0.0f);
    for (i64 m = 0; m < M; ++m) {
        if (!counted[m]) continue;
        float *chosen_E = chosen + sequence[m] * E, *share_E = share + sequence[m] * E, sum = 0;
        const float* score = scores + m * E;
        for (i64 e = 0; e < E; ++e) sum += score[e];
        for (i64 e = 0; e < E; ++e) share_E[e] += score[e] / sum;
        for (i64 a = 0; a < A; ++a) chosen_E[experts[m * A + a]] += 1.0f;
        tokens[sequence[m]] += 1.0f;
    }
    float total = 0;
    for (i64 s = 0; s < S; ++s) {
        float factor = float(E) / A / std::max(tokens[s], 1.0f);
        for (i64 e = 0; e < E; ++e) {
            load[e] += chosen[s * E + e];
            chosen[s * E + e] *= factor;
            total += chosen[s * E + e] * share[s * E + e];
        }
    }
    *loss = total;
}

void balance_backward(const float* scores, const uint8_t* counted, const i64* sequence, const float* slopes, float slope,
                      float* d_scores, i64 M, i64 E) {
#pragma omp parallel for schedule(static)
    for (i64 m = 0; m < M; ++m) {
        const float *score = scores + m * E, *by_share = slopes + sequence[m] * E;
        float *d = d_scores + m * E, sum = 0, dot = 0;
        for (i64 e = 0; e < E; ++e) {
            sum += score[e];
            dot += score[e] * by_share[e];
        }
        float factor = counted[m] ? slope / sum : 0.0f;
        for (i64 e = 0; e < E; ++e) d[e] = factor * (by_share[e] - dot / sum);
    }
}

// ---- experts -----------------------------------------------------------------------------------------------------

// Where each (token, choice) of experts [M, A] lies among rows sorted by expert, each expert's rows filled up to a
// multiple of `step`; `counts` [E] are the filled ones. `tokens` has room for M * A + E * (step - 1) rows and comes
// zeroed, `weights` too: rows that only fill up are token 0's, with the weight 0. Order within an expert is the tokens'.
void sort_by_expert(const i64* experts, const float* expert_weights, i64* place, i64* tokens, float* weights, i64* counts,
                    i64 M, i64 A, i64 E, i64 step) {
    std::vector<i64> next(E + 1, 0);
    for (i64 i = 0; i < M * A; ++i) ++next[experts[i] + 1];
    for (i64 e = 0; e < E; ++e) {
        counts[e] = (next[e + 1] + step - 1) / step * step;
        next[e + 1] = next[e] + counts[e];
    }
    for (i64 i = 0; i < M * A; ++i) {
        i64 row = next[experts[i]]++;
        place[i] = row;
        tokens[row] = i / A;
        weights[row] = expert_weights[i];
    }
}

// y[m] = sum over a of rows[place[m, a]].
void gather_sum(const bf16* rows, const i64* place, bf16* y, i64 tokens, i64 per_token, i64 width) {
#pragma omp parallel
    {
        std::vector<float> total(width);
#pragma omp for schedule(static)
        for (i64 m = 0; m < tokens; ++m) {
            std::fill(total.begin(), total.end(), 0.0f);
            for (i64 a = 0; a < per_token; ++a) {
                const bf16* row = rows + place[m * per_token + a] * width;
                for (i64 i = 0; i < width; ++i) total[i] += load(row[i]);
            }
            for (i64 i = 0; i < width; ++i) y[m * width + i] = store(total[i]);
        }
    }
}

// ---- gradients ---------------------------------------------------------------------------------------------------

// total = slope * part for the first part (index 0), total += slope * part for the others; part is [rows, width] with a
// stride between rows, total is dense. A power of two as slope, or one part, gives the bits of any other order.
void add_gradient(const bf16* part, i64 stride, float slope, float* total, i64 rows, i64 width, i64 index) {
#pragma omp parallel for schedule(static) if (rows * width > 100000)  // less is not worth waking a thread
    for (i64 row = 0; row < rows; ++row) {
        const bf16* in = part + row * stride;
        float* out = total + row * width;
        if (index == 0)
            for (i64 i = 0; i < width; ++i) out[i] = slope * load(in[i]);
        else
            for (i64 i = 0; i < width; ++i) out[i] += slope * load(in[i]);
    }
}

// ---- attention ---------------------------------------------------------------------------------------------------

// Heads of one source, [B, T, heads, *] with the given strides, into [B, N, T, width] at an offset: `kept` values copied,
// then `rotary` values turned by their position's angle. Head n reads source head n / group.
void pack_heads(const bf16* source, i64 stride_b, i64 stride_t, i64 stride_n, i64 group, i64 kept, i64 rotary,
                const float* cosine, const float* sine, i64 angle_stride_b, bf16* packed, i64 B, i64 T, i64 N, i64 width,
                i64 offset) {
    i64 half = rotary / 2;
#pragma omp parallel for collapse(2) schedule(static)
    for (i64 b = 0; b < B; ++b)
        for (i64 t = 0; t < T; ++t) {
            const float *c = cosine + b * angle_stride_b + t * half, *s = sine + b * angle_stride_b + t * half;
            for (i64 n = 0; n < N; ++n) {
                const bf16* in = source + b * stride_b + t * stride_t + n / group * stride_n;
                bf16* out = packed + ((b * N + n) * T + t) * width + offset;
                std::memcpy(out, in, kept * sizeof(bf16));
                for (i64 i = 0; i < half; ++i) {
                    float x = load(in[kept + i]), y = load(in[kept + half + i]);
                    out[kept + i] = store(x * c[i] - y * s[i]);
                    out[kept + half + i] = store(y * c[i] + x * s[i]);
                }
            }
        }
}

}  // extern "C"

// The way back: gradients of packed heads to the source's layout, turned back, summed over the heads that read one source
// head. The source gradient has heads / group heads of kept + rotary values with the given strides.
template <typename Packed>
static void unpack(const Packed* packed, i64 width, i64 offset, bf16* gradient, i64 stride_b, i64 stride_t, i64 stride_n,
                   i64 group, i64 kept, i64 rotary, const float* cosine, const float* sine, i64 angle_stride_b, i64 B, i64 T,
                   i64 N) {
    i64 half = rotary / 2;
#pragma omp parallel
    {
        std::vector<float> total(kept + rotary);
#pragma omp for collapse(2) schedule(static)
        for (i64 b = 0; b < B; ++b)
            for (i64 t = 0; t < T; ++t) {
                const float *c = cosine + b * angle_stride_b + t * half, *s = sine + b * angle_stride_b + t * half;
                for (i64 first = 0; first < N; first += group) {
                    std::fill(total.begin(), total.end(), 0.0f);
                    for (i64 n = first; n < first + group; ++n) {
                        const Packed* in = packed + ((b * N + n) * T + t) * width + offset;
                        for (i64 i = 0; i < kept + rotary; ++i) total[i] += load(in[i]);
                    }
                    bf16* out = gradient + b * stride_b + t * stride_t + first / group * stride_n;
                    for (i64 i = 0; i < kept; ++i) out[i] = store(total[i]);
                    for (i64 i = 0; i < half; ++i) {
                        float x = total[kept + i], y = total[kept + half + i];
                        out[kept + i] = store(x * c[i] + y * s[i]);
                        out[kept + half + i] = store(y * c[i] - x * s[i]);
                    }
                }
            }
    }
}

extern "C" {

void unpack_heads_bf16(const bf16* packed, i64 width, i64 offset, bf16* gradient, i64 stride_b, i64 stride_t, i64 stride_n,
                       i64 group, i64 kept, i64 rotary, const float* cosine, const float* sine, i64 angle_stride_b, i64 B,
                       i64 T, i64 N) {
    unpack(packed, width, offset, gradient, stride_b, stride_t, stride_n, group, kept, rotary, cosine, sine,
           angle_stride_b, B, T, N);
}

void unpack_heads_fp32(const float* packed, i64 width, i64 offset, bf16* gradient, i64 stride_b, i64 stride_t, i64 stride_n,
                       i64 group, i64 kept, i64 rotary, const float* cosine, const float* sine, i64 angle_stride_b, i64 B,
                       i64 T, i64 N) {
    unpack(packed, width, offset, gradient, stride_b, stride_t, stride_n, group, kept, rotary, cosine, sine,
           angle_stride_b, B, T, N);
}

// Scores [N, queries, keys] into probabilities in place. Query q stands at position first_query + q and sees the keys from
// starts[q], where its document begins, to itself; key 0 stands at position first_key. log_sum: [N, *] with the given stride
// between heads.
void causal_softmax(bf16* scores, float* log_sum, i64 T, const i64* starts, i64 heads, i64 N, i64 queries, i64 keys,
                    i64 first_query, i64 first_key, float scale) {
#pragma omp parallel
    {
        std::vector<float> row(keys);
#pragma omp for collapse(2) schedule(static)
        for (i64 n = 0; n < N; ++n)
            for (i64 q = 0; q < queries; ++q) {
                bf16* s = scores + (n * queries + q) * keys;
                i64 from = starts[n / heads * T + q] - first_key, to = first_query + q + 1 - first_key;
                float largest = -INFINITY, sum = 0;
                for (i64 k = from; k < to; ++k) {
                    row[k] = load(s[k]) * scale;
                    largest = std::max(largest, row[k]);
                }
                for (i64 k = from; k < to; ++k) {
                    row[k] = fast_exp(row[k] - largest);
                    sum += row[k];
                }
                float inverse = 1.0f / sum;
                std::memset(s, 0, from * sizeof(bf16));
                for (i64 k = from; k < to; ++k) s[k] = store(row[k] * inverse);
                std::memset(s + to, 0, (keys - to) * sizeof(bf16));
                log_sum[n * T + q] = largest + std::log(sum);
            }
    }
}

// Scores, made again, into probabilities, and gradients of probabilities into those of scores, both in place:
// p = exp(s scale - log_sum), ds = p (dp - delta) scale.
void causal_softmax_backward(bf16* scores, bf16* slopes, const float* log_sum, const float* delta, i64 T,
                             const i64* starts, i64 heads, i64 N, i64 queries, i64 keys, i64 first_query, i64 first_key, float scale) {
#pragma omp parallel for collapse(2) schedule(static)
    for (i64 n = 0; n < N; ++n)
        for (i64 q = 0; q < queries; ++q) {
            bf16 *s = scores + (n * queries + q) * keys, *d = slopes + (n * queries + q) * keys;
            i64 from = starts[n / heads * T + q] - first_key, to = first_query + q + 1 - first_key;
            float log = log_sum[n * T + q], mean = delta[n * T + q];
            for (i64 k = from; k < to; ++k) {
                float p = fast_exp(load(s[k]) * scale - log);
                d[k] = store(p * (load(d[k]) - mean) * scale);
                s[k] = store(p);
            }
            for (bf16* row : {s, d}) {
                std::memset(row, 0, from * sizeof(bf16));
                std::memset(row + to, 0, (keys - to) * sizeof(bf16));
            }
        }
}

// dO [B, T, N, C] into packed [B, N, T, C], and delta [B, N, T] = sum over C of dO * O, with O packed as well.
void pack_slopes(const bf16* slopes, const bf16* out, bf16* packed, float* delta, i64 B, i64 T, i64 N, i64 C) {
#pragma omp parallel for collapse(2) schedule(static)
    for (i64 b = 0; b < B; ++b)
        for (i64 t = 0; t < T; ++t)
            for (i64 n = 0; n < N; ++n) {
                const bf16 *d = slopes + ((b * T + t) * N + n) * C, *o = out + ((b * T + t) * N + n) * C;
                i64 place = (b * N + n) * T + t;
                float dot = 0;
                for (i64 i = 0; i < C; ++i) dot += load(d[i]) * load(o[i]);
                delta[place] = dot;
                std::memcpy(packed + place * C, d, C * sizeof(bf16));
            }
}

// Values of a block, [rows, N, queries, C], into the output [rows, T, N, C].
void place_values(const bf16* block, bf16* out, i64 rows, i64 T, i64 N, i64 queries, i64 C) {
#pragma omp parallel for collapse(2) schedule(static)
    for (i64 r = 0; r < rows; ++r)
        for (i64 q = 0; q < queries; ++q)
            for (i64 n = 0; n < N; ++n)
                std::memcpy(out + ((r * T + q) * N + n) * C, block + ((r * N + n) * queries + q) * C, C * sizeof(bf16));
}

// total[n, k, :] += part[n, k, :] for the first `keys` of `stride` rows a head.
void accumulate(float* total, i64 stride, const bf16* part, i64 N, i64 keys, i64 width) {
#pragma omp parallel for schedule(static)
    for (i64 n = 0; n < N; ++n)
        for (i64 i = 0; i < keys * width; ++i) total[n * stride * width + i] += load(part[n * keys * width + i]);
}

// ---- cross-entropy -----------------------------------------------------------------------------------------------

// Per row of logits [rows, V]: loss = log sum exp - logit of the target; with `slopes`, logits become softmax - one-hot.
void cross_entropy(bf16* logits, const i64* targets, float* losses, i64 rows, i64 V, i64 slopes) {
#pragma omp parallel
    {
        std::vector<float> row(V);
#pragma omp for schedule(static)
        for (i64 r = 0; r < rows; ++r) {
            bf16* in = logits + r * V;
            float largest = -INFINITY, sum = 0;
            for (i64 v = 0; v < V; ++v) largest = std::max(largest, load(in[v]));
            for (i64 v = 0; v < V; ++v) {
                row[v] = fast_exp(load(in[v]) - largest);
                sum += row[v];
            }
            losses[r] = largest + std::log(sum) - load(in[targets[r]]);
            if (!slopes) continue;
            float inverse = 1.0f / sum;
            row[targets[r]] -= sum;
            for (i64 v = 0; v < V; ++v) in[v] = store(row[v] * inverse);
        }
    }
}

}  // extern "C"
