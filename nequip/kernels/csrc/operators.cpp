// The operators of torch.ops.nequip for CPU tensors. Built with torch's stable ABI, so that one binary
// serves several versions of torch; no Python inside: artefacts and LAMMPS load the same library.
#include <torch/csrc/stable/library.h>

#include "contraction_operators.h"
#include "conv_operators.h"
#include "linear_operators.h"
#include "segment_operators.h"
#include "symmetric_operators.h"

#define INDICES "Tensor center, Tensor neighbor, Tensor row_ptr, Tensor transpose, str spec"
STABLE_TORCH_LIBRARY(nequip, m) {
  m.def("map_irreps(Tensor x, Tensor weight, Tensor types, str spec, bool transposed) -> Tensor");
  m.def("map_irreps_weight(Tensor x, Tensor grad, Tensor types, int num_types, str spec) -> Tensor");
  m.def("segment_sum(Tensor values, Tensor row_ptr) -> Tensor");
  m.def("conv(Tensor x, Tensor sh, Tensor weight, " INDICES ") -> Tensor");
  m.def("conv_backward(Tensor grad, Tensor x, Tensor sh, Tensor weight, " INDICES ") -> (Tensor, Tensor, Tensor)");
  m.def("conv_table(Tensor x, Tensor sh, Tensor position, Tensor knots, " INDICES ") -> Tensor");
  m.def(
      "conv_table_backward(Tensor grad, Tensor x, Tensor sh, Tensor position, Tensor knots, " INDICES
      ") -> (Tensor, Tensor, Tensor)");
  m.def(
      "conv_double_backward(Tensor along_x, Tensor along_sh, Tensor along_weight, Tensor grad, Tensor x, Tensor sh, "
      "Tensor weight, " INDICES ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("contract(Tensor tensors, Tensor env, Tensor weight, Tensor row_ptr, str spec) -> Tensor");
  m.def(
      "contract_backward(Tensor grad, Tensor tensors, Tensor env, Tensor weight, Tensor row_ptr, str spec) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "contract_double_backward(Tensor along_tensors, Tensor along_env, Tensor along_weight, Tensor grad, "
      "Tensor tensors, Tensor env, Tensor weight, Tensor row_ptr, str spec) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("contract_symmetric(Tensor x, Tensor weight, Tensor types, str spec) -> Tensor");
  m.def(
      "contract_symmetric_backward(Tensor grad, Tensor x, Tensor weight, Tensor types, str spec, bool with_weight) -> "
      "(Tensor, Tensor)");
  m.def(
      "contract_symmetric_derivative(Tensor along_grad, Tensor along_x, Tensor along_weight, Tensor grad, Tensor x, "
      "Tensor weight, Tensor types, str spec, bool with_weight) -> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(nequip, CPU, m) {
  m.impl("map_irreps", TORCH_BOX(&map_irreps));
  m.impl("map_irreps_weight", TORCH_BOX(&map_irreps_weight));
  m.impl("segment_sum", TORCH_BOX(&segment_sum));
  m.impl("conv", TORCH_BOX(&conv));
  m.impl("conv_backward", TORCH_BOX(&conv_backward));
  m.impl("conv_double_backward", TORCH_BOX(&conv_double_backward));
  m.impl("conv_table", TORCH_BOX(&conv_table));
  m.impl("conv_table_backward", TORCH_BOX(&conv_table_backward));
  m.impl("contract", TORCH_BOX(&contract));
  m.impl("contract_backward", TORCH_BOX(&contract_backward));
  m.impl("contract_double_backward", TORCH_BOX(&contract_double_backward));
  m.impl("contract_symmetric", TORCH_BOX(&contract_symmetric));
  m.impl("contract_symmetric_backward", TORCH_BOX(&contract_symmetric_backward));
  m.impl("contract_symmetric_derivative", TORCH_BOX(&contract_symmetric_derivative));
}

// Of what a kernel library and a compiled model expect of these operators: see nequip/kernels/native/library.py.
extern "C" const char* nequip_abi() { return NEQUIP_ABI; }
