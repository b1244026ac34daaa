// Between the operators and the generated symmetric contractions: plain structures and C functions.
#pragma once
#include <cstdint>

// Some atoms of one type, and one vector of channels: what a call computes. `coefficients` are those of the
// type and the vector.
struct SymmetricPiece {
  const int64_t* atoms;
  int64_t count, block;
  const void* coefficients;
};
// The point, then the directions of derivatives, one after the other.
struct SymmetricInputs {
  const void *const *grad, *const *x;
};
// `coefficients` belongs to the piece, and is null where the gradient by weights is not wanted.
struct SymmetricOutputs {
  void *grad, *x, *coefficients;
};

extern "C" {
// From the weights of one type, at the point and along the directions.
typedef void symmetric_coefficients_t(const void* const* weight, int64_t block, void* coefficients);
typedef void symmetric_value_t(const SymmetricPiece&, const void* x, void* out);
typedef void symmetric_gradient_t(const SymmetricPiece&, const SymmetricInputs&, const SymmetricOutputs&);
// From the gradient by coefficients to that by the weights of one type.
typedef void symmetric_collect_t(const void* coefficients, int64_t block, void* weight);
}
