// Between the operators and the generated contractions: plain structures and C functions.
#pragma once
#include <cstdint>

// Rows [first, last) of one call.
struct ContractionRows {
  int64_t first, last;
  const int64_t* row_ptr;
};
struct ContractionInputs {
  const void *tensors, *env, *weight, *grad;
};
// `weight` is added to, and belongs to the block of rows: the sum over all edges is taken block by block.
struct ContractionOutputs {
  void *grad, *tensors, *env, *weight;
};

extern "C" {
typedef void contraction_forward_t(const ContractionRows&, const ContractionInputs&, void* out);
typedef void contraction_backward_t(const ContractionRows&, const ContractionInputs&, const ContractionOutputs&);
typedef void contraction_double_backward_t(const ContractionRows&, const ContractionInputs&,
                                           const ContractionInputs& direction, const ContractionOutputs&);
}
