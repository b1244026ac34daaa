// Between the operators and the generated kernels: plain structures and C functions.
#pragma once
#include <cstdint>

// Rows [first, last) of one call. `slot` says to which row of dx an edge adds, counted from the first
// edge of the block: blocks that run at the same time have a dx of their own.
struct ConvRows {
  int64_t first, last;
  const int64_t *row_ptr, *neighbor;
  const int32_t* slot;
};
struct ConvInputs {
  const void *x, *sh, *weight, *grad;
};
struct ConvOutputs {
  void *grad, *x, *sh, *weight;
};

// Weights as functions of one number for each edge: value, slope and curvature at knots one apart,
// [knot, 3, weight]. `dposition` is written in the backward pass.
struct ConvTable {
  const void* knots;
  int64_t intervals;
  const double* position;
  double* dposition;
};

extern "C" {
typedef const char* conv_instruction_set_t();
typedef void conv_forward_t(const ConvRows&, const ConvInputs&, void* out);
typedef void conv_backward_t(const ConvRows&, const ConvInputs&, const ConvOutputs&);
typedef void conv_table_forward_t(const ConvRows&, const ConvInputs&, const ConvTable&, void* out);
typedef void conv_table_backward_t(const ConvRows&, const ConvInputs&, const ConvTable&, const ConvOutputs&);
typedef void conv_double_backward_t(const ConvRows&, const ConvInputs&, const ConvInputs& direction,
                                    const ConvOutputs&);
}
