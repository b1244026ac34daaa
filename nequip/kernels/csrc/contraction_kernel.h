// What every generated contraction of allegro/contraction shares: the loops over rows and channels.
//
// The environment E and the weights W are the same for all edges of a row. For each channel there is one
// matrix T_ik = sum_p W_p sum_j C_pijk E_j, and the row is V' = T V, edge by edge. In the same way all that
// derivatives need of the edges is one matrix D_ik = sum over edges of g_k V_i.
//
// A generated file defines, before it includes this header,
//   Scalar                        float or double
//   CHANNELS                      of every block
//   DIM_IN, DIM_ENV, DIM_OUT      columns of V, E, V'
//   NUM_PATHS, NUM_ENTRIES        of W; of T, where it is not zero by symmetry
// and after it the function templates declared below. No Python, no torch.
#pragma once
#include "contraction_abi.h"
#include "vectors.h"

namespace {

// Generated, for N channels: pointers are to the first of these. What has `Add` adds to its result.
template <int N, bool Add>
void tabulate(const Scalar* env, const Scalar* weight, Scalar* T);
template <int N, bool Add>
void apply(const Scalar* T, const Scalar* x, Scalar* out, int64_t edges);
template <int N>
void apply_transposed(const Scalar* T, const Scalar* grad, Scalar* dx, int64_t edges);
template <int N>
void outer(const Scalar* grad, const Scalar* x, Scalar* D, int64_t edges);
// dE_j += sum_p W_p q_pj and dW_p += sum_j E_j q_pj, with q_pj = sum_ik C_pijk D_ik.
template <int N>
void collect(const Scalar* D, const Scalar* env, const Scalar* weight, Scalar* denv, Scalar* dweight);

template <int N, bool Add>
inline void put(Scalar* p, Vector<N> v) {
  if constexpr (Add) add<N>(p, v);
  else store<N>(p, v);
}

// visit<N>(first channel): full vectors, and ever smaller ones for what is left.
template <int N, class Visit>
inline void for_channels_left(int u, Visit visit) {
  if constexpr ((CHANNELS & N) != 0) {
    visit.template operator()<N>(u);
    u += N;
  }
  if constexpr (N > 1) for_channels_left<N / 2>(u, visit);
}
template <class Visit>
inline void for_channels(Visit visit) {
  int u = 0;
  for (; u + LANES <= CHANNELS; u += LANES) visit.template operator()<LANES>(u);
  if constexpr (LANES > 1) for_channels_left<LANES / 2>(u, visit);
}

// visit(row, first edge, number of edges) for each row that has edges.
template <class Visit>
inline void for_rows(const ContractionRows& rows, Visit visit) {
  for (int64_t row = rows.first; row < rows.last; ++row) {
    const int64_t begin = rows.row_ptr[row], end = rows.row_ptr[row + 1];
    if (begin < end) visit(row, begin, end - begin);
  }
}

inline const Scalar* read(const void* array) { return static_cast<const Scalar*>(array); }
inline Scalar* write(void* array) { return static_cast<Scalar*>(array); }

inline void clear_env(const ContractionRows& rows, void* denv) {
  std::memset(write(denv) + rows.first * DIM_ENV, 0, (rows.last - rows.first) * DIM_ENV * sizeof(Scalar));
}

}  // namespace

extern "C" {
const char* contraction_instruction_set() { return INSTRUCTION_SET; }
extern const int32_t contraction_sizes[5] = {DIM_IN, DIM_ENV, DIM_OUT, NUM_PATHS, CHANNELS};

void contraction_forward(const ContractionRows& rows, const ContractionInputs& in, void* out) {
  for_rows(rows, [&](int64_t row, int64_t edge, int64_t edges) {
    for_channels([&]<int N>(int u) {
      alignas(64) Scalar T[NUM_ENTRIES * N];
      tabulate<N, false>(read(in.env) + row * DIM_ENV + u, read(in.weight) + u, T);
      apply<N, false>(T, read(in.tensors) + edge * DIM_IN + u, write(out) + edge * DIM_OUT + u, edges);
    });
  });
}

void contraction_backward(const ContractionRows& rows, const ContractionInputs& in, const ContractionOutputs& out) {
  clear_env(rows, out.env);
  for_rows(rows, [&](int64_t row, int64_t edge, int64_t edges) {
    for_channels([&]<int N>(int u) {
      alignas(64) Scalar T[NUM_ENTRIES * N], D[NUM_ENTRIES * N];
      const Scalar *env = read(in.env) + row * DIM_ENV + u, *weight = read(in.weight) + u,
                   *x = read(in.tensors) + edge * DIM_IN + u, *grad = read(in.grad) + edge * DIM_OUT + u;
      tabulate<N, false>(env, weight, T);
      apply_transposed<N>(T, grad, write(out.tensors) + edge * DIM_IN + u, edges);
      outer<N>(grad, x, D, edges);
      collect<N>(D, env, weight, write(out.env) + row * DIM_ENV + u, write(out.weight) + u);
    });
  });
}

// Along (a, b, c) T changes by S = T(b, W) + T(E, c). The gradient of sum over edges of g (T a + S V).
void contraction_double_backward(const ContractionRows& rows, const ContractionInputs& in,
                                 const ContractionInputs& direction, const ContractionOutputs& out) {
  clear_env(rows, out.env);
  for_rows(rows, [&](int64_t row, int64_t edge, int64_t edges) {
    for_channels([&]<int N>(int u) {
      alignas(64) Scalar T[NUM_ENTRIES * N], S[NUM_ENTRIES * N], D[NUM_ENTRIES * N];
      const Scalar *env = read(in.env) + row * DIM_ENV + u, *b = read(direction.env) + row * DIM_ENV + u,
                   *weight = read(in.weight) + u, *c = read(direction.weight) + u,
                   *x = read(in.tensors) + edge * DIM_IN + u, *a = read(direction.tensors) + edge * DIM_IN + u,
                   *grad = read(in.grad) + edge * DIM_OUT + u;
      Scalar *dgrad = write(out.grad) + edge * DIM_OUT + u, *denv = write(out.env) + row * DIM_ENV + u,
             *dweight = write(out.weight) + u;
      tabulate<N, false>(env, weight, T);
      tabulate<N, false>(b, weight, S);
      tabulate<N, true>(env, c, S);
      apply<N, false>(T, a, dgrad, edges);
      apply<N, true>(S, x, dgrad, edges);
      apply_transposed<N>(S, grad, write(out.tensors) + edge * DIM_IN + u, edges);
      outer<N>(grad, a, D, edges);
      collect<N>(D, env, weight, denv, dweight);
      outer<N>(grad, x, D, edges);
      collect<N>(D, b, c, denv, dweight);
    });
  });
}
}
