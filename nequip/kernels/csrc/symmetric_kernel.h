// What every generated symmetric contraction of mace_ext/contraction shares: loops over atoms, one vector of
// channels at a time. The last vector need not be full: the lanes beyond the channels hold zeros.
//
// For each component M of the output there is a polynomial in the components A of the features, whose
// coefficients are sums of weights. A generated file defines, before it includes this header,
//   Scalar                        float or double
//   CHANNELS                      of every block
//   DIM_IN, DIM_OUT               components of all irreps
//   NUM_PATHS, NUM_COEFFICIENTS   weights of a channel; coefficients of all polynomials
//   FIRST, PATH, VALUE            coefficient s = sum of VALUE[i] W[PATH[i]] over FIRST[s] <= i < FIRST[s + 1]
//   ORDER                         of the derivative whose gradient is computed
//   MOVING                        whether the coefficients change along its directions
// and after it the function templates declared below. No Python, no torch.
#pragma once
#include "dual_numbers.h"
#include "symmetric_abi.h"

#define SYMMETRIC_JOIN(name, order, moving) symmetric_##name##_##order##_##moving
#define SYMMETRIC_NAME_OF(name, order, moving) SYMMETRIC_JOIN(name, order, moving)
#define SYMMETRIC_NAME(name) SYMMETRIC_NAME_OF(name, ORDER, MOVING)

namespace {

constexpr int BLOCKS = (CHANNELS + LANES - 1) / LANES;

using Variable = Number<ORDER>;
using Coefficient = Number<MOVING ? ORDER : 0>;

// Generated. What they compute is added to out, dA and dc.
template <class T>
void value(const T* A, const T* c, T* out);
template <bool WITH_COEFFICIENTS>
void gradient(const Variable* A, const Coefficient* c, const Variable* grad, Plain* dgrad, Plain* dA, Plain* dc);

inline int channels_of(int64_t block) {
  return block + 1 < BLOCKS || CHANNELS % LANES == 0 ? LANES : CHANNELS % LANES;
}

// Rows [row][channel] of one atom, or of the weights: from the first channel of a block.
inline const Scalar* read(const void* array, int64_t row, int64_t block) {
  return static_cast<const Scalar*>(array) + row * CHANNELS + block * LANES;
}
inline Scalar* write(void* array, int64_t row, int64_t block) {
  return static_cast<Scalar*>(array) + row * CHANNELS + block * LANES;
}

inline Plain load_channels(const Scalar* p, int channels) {
  if (channels == LANES) return load<LANES>(p);
  Plain v = {};
  std::memcpy(&v, p, channels * sizeof(Scalar));
  return v;
}
inline void store_channels(Scalar* p, const Plain& v, int channels) {
  if (channels == LANES) store<LANES>(p, v);
  else std::memcpy(p, &v, channels * sizeof(Scalar));
}

template <bool WITH_COEFFICIENTS>
void gradient_of_atoms(const SymmetricPiece& piece, const SymmetricInputs& in, const SymmetricOutputs& out) {
  const int channels = channels_of(piece.block);
  const auto* c = static_cast<const Coefficient*>(piece.coefficients);
  auto* dc = static_cast<Plain*>(out.coefficients);
  for (int64_t n = 0; n < piece.count; ++n) {
    const int64_t row_in = piece.atoms[n] * DIM_IN, row_out = piece.atoms[n] * DIM_OUT;
    Variable A[DIM_IN], grad[DIM_OUT];
    Plain dA[DIM_IN] = {}, dgrad[DIM_OUT] = {};
    for (int i = 0; i < DIM_IN; ++i)
      A[i] = along<ORDER>([&](int v) { return load_channels(read(in.x[v], row_in + i, piece.block), channels); });
    for (int m = 0; m < DIM_OUT; ++m)
      grad[m] = along<ORDER>([&](int v) { return load_channels(read(in.grad[v], row_out + m, piece.block), channels); });
    gradient<WITH_COEFFICIENTS>(A, c, grad, dgrad, dA, dc);
    for (int i = 0; i < DIM_IN; ++i) store_channels(write(out.x, row_in + i, piece.block), dA[i], channels);
    if constexpr (ORDER > 0)
      for (int m = 0; m < DIM_OUT; ++m) store_channels(write(out.grad, row_out + m, piece.block), dgrad[m], channels);
  }
}

}  // namespace

extern "C" {
const char* symmetric_instruction_set() { return INSTRUCTION_SET; }
extern const int32_t symmetric_sizes[5] = {DIM_IN * CHANNELS, DIM_OUT * CHANNELS,      NUM_PATHS * CHANNELS,
                                           BLOCKS,            NUM_COEFFICIENTS * VECTOR_BYTES};

void SYMMETRIC_NAME(coefficients)(const void* const* weight, int64_t block, void* coefficients) {
  const int channels = channels_of(block);
  auto* c = static_cast<Coefficient*>(coefficients);
  for (int s = 0; s < NUM_COEFFICIENTS; ++s)
    c[s] = along<MOVING ? ORDER : 0>([&](int v) {
      Plain sum = {};
      for (int i = FIRST[s]; i < FIRST[s + 1]; ++i)
        sum += VALUE[i] * load_channels(read(weight[v], PATH[i], block), channels);
      return sum;
    });
}

void SYMMETRIC_NAME(collect)(const void* coefficients, int64_t block, void* weight) {
  const int channels = channels_of(block);
  const auto* dc = static_cast<const Plain*>(coefficients);
  Plain total[NUM_PATHS] = {};
  for (int s = 0; s < NUM_COEFFICIENTS; ++s)
    for (int i = FIRST[s]; i < FIRST[s + 1]; ++i) total[PATH[i]] += VALUE[i] * dc[s];
  for (int p = 0; p < NUM_PATHS; ++p) store_channels(write(weight, p, block), total[p], channels);
}

#if ORDER == 0
void SYMMETRIC_NAME(value)(const SymmetricPiece& piece, const void* x, void* result) {
  const int channels = channels_of(piece.block);
  const auto* c = static_cast<const Plain*>(piece.coefficients);
  for (int64_t n = 0; n < piece.count; ++n) {
    const int64_t row_in = piece.atoms[n] * DIM_IN, row_out = piece.atoms[n] * DIM_OUT;
    Plain A[DIM_IN], out[DIM_OUT] = {};
    for (int i = 0; i < DIM_IN; ++i) A[i] = load_channels(read(x, row_in + i, piece.block), channels);
    value(A, c, out);
    for (int m = 0; m < DIM_OUT; ++m) store_channels(write(result, row_out + m, piece.block), out[m], channels);
  }
}
#endif

void SYMMETRIC_NAME(gradient)(const SymmetricPiece& piece, const SymmetricInputs& in, const SymmetricOutputs& out) {
  if (out.coefficients == nullptr) gradient_of_atoms<false>(piece, in, out);
  else gradient_of_atoms<true>(piece, in, out);
}
}
