// The operators `nequip::contract...` of Allegro: check the arguments, share the rows out among threads, call
// the kernel that was generated for the specification.
#pragma once
#include <tuple>
#include <vector>

#include "blocks.h"
#include "contraction_abi.h"
#include "kernel_registry.h"
#include "tensors.h"

namespace {

struct ContractionKernel {
  const int32_t* sizes = nullptr;  // columns of V, E, V', then paths and channels
  contraction_forward_t* forward = nullptr;
  contraction_backward_t* backward = nullptr;
  contraction_double_backward_t* double_backward = nullptr;
};

// V, E and W of a call, or the directions of their derivatives: checked, and contiguous.
struct ContractionPoint {
  Tensor tensors, env, weight;

  ContractionInputs inputs(const void* grad) const {
    return {tensors.data_ptr(), env.data_ptr(), weight.data_ptr(), grad};
  }
};

struct Contraction {
  ContractionKernel kernel;
  ScalarType type;
  Tensor row_ptr;
  int64_t rows, edges;

  Contraction(const Tensor& tensors, const Tensor& pointers, const std::string& spec)
      : kernel(find(spec, tensors)), type(tensors.scalar_type()), row_ptr(torch::stable::contiguous(pointers)),
        edges(tensors.size(0)) {
    check_indices("contract", "row_ptr", pointers, -1);
    STD_TORCH_CHECK(pointers.size(0) > 0, "contract: row_ptr is empty; it has one entry more than there are rows");
    rows = pointers.size(0) - 1;
    check_row_ptr("contract", data<const int64_t>(row_ptr), rows, edges);
  }

  static ContractionKernel find(const std::string& spec, const Tensor& x) {
    STD_TORCH_CHECK(x.dim() == 2, "contract: tensors is ", shape(x), ", not [edges, columns]");
    const auto type = x.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                    "contract: tensors is neither float32 nor float64");
    const auto kernel = Registry<ContractionKernel>::of().find(spec, type == ScalarType::Float ? 4 : 8);
    STD_TORCH_CHECK(kernel.forward != nullptr, "contract: no kernel was loaded for ", spec);
    return kernel;
  }

  ContractionPoint point(const std::string& prefix, const Tensor& tensors, const Tensor& env,
                         const Tensor& weight) const {
    check_matrix("contract", (prefix + "tensors").c_str(), tensors, edges, kernel.sizes[0], type);
    check_matrix("contract", (prefix + "env").c_str(), env, rows, kernel.sizes[1], type);
    check_matrix("contract", (prefix + "weight").c_str(), weight, kernel.sizes[3], kernel.sizes[4], type);
    return {torch::stable::contiguous(tensors), torch::stable::contiguous(env), torch::stable::contiguous(weight)};
  }
  Tensor gradient(const Tensor& grad) const {
    check_matrix("contract", "grad", grad, edges, kernel.sizes[2], type);
    return torch::stable::contiguous(grad);
  }

  // run(rows, number of the block) for every block of rows.
  template <class Run>
  void in_blocks(const std::vector<int64_t>& boundaries, Run run) const {
    const auto* pointers = data<const int64_t>(row_ptr);
    parallel(boundaries.size() - 1, 1, [&](int64_t b) {
      run(ContractionRows{boundaries[b], boundaries[b + 1], pointers}, b);
    });
  }

  // run(rows, dW of the block) for every block; the sum of these in the order of the blocks.
  template <class Run>
  Tensor sum_over_blocks(const Tensor& like_tensor, Run run) const {
    const auto boundaries = blocks_of(data<const int64_t>(row_ptr), rows);
    const int64_t blocks = boundaries.size() - 1, paths = kernel.sizes[3], channels = kernel.sizes[4];
    const Tensor parts = torch::stable::new_zeros(like_tensor, {blocks, paths * channels});
    Tensor total = torch::stable::new_zeros(like_tensor, {paths, channels});
    const int64_t row_bytes = paths * channels * (type == ScalarType::Float ? 4 : 8);
    in_blocks(boundaries, [&](const ContractionRows& block, int64_t b) {
      run(block, static_cast<char*>(parts.data_ptr()) + b * row_bytes);
    });
    if (type == ScalarType::Float) add_rows(data<const float>(parts), blocks, paths * channels, data<float>(total));
    else add_rows(data<const double>(parts), blocks, paths * channels, data<double>(total));
    return total;
  }

  template <class Scalar>
  static void add_rows(const Scalar* parts, int64_t count, int64_t columns, Scalar* total) {
    for (int64_t row = 0; row < count; ++row)
      for (int64_t column = 0; column < columns; ++column) total[column] += parts[row * columns + column];
  }
};

Tensor contract(Tensor tensors, Tensor env, Tensor weight, Tensor row_ptr, StringHandle handle) {
  const std::string spec = owned(handle);
  const Contraction call(tensors, row_ptr, spec);
  const auto point = call.point("", tensors, env, weight);
  Tensor out = allocate(tensors, {call.edges, call.kernel.sizes[2]});
  const auto inputs = point.inputs(nullptr);
  call.in_blocks(blocks_of(data<const int64_t>(call.row_ptr), call.rows),
                 [&](const ContractionRows& rows, int64_t) { call.kernel.forward(rows, inputs, out.data_ptr()); });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> contract_backward(Tensor grad, Tensor tensors, Tensor env, Tensor weight,
                                                     Tensor row_ptr, StringHandle handle) {
  const std::string spec = owned(handle);
  const Contraction call(tensors, row_ptr, spec);
  const auto point = call.point("", tensors, env, weight);
  const Tensor g = call.gradient(grad);
  Tensor dtensors = like(tensors), denv = like(env);
  const auto inputs = point.inputs(g.data_ptr());
  const Tensor dweight = call.sum_over_blocks(weight, [&](const ContractionRows& rows, void* part) {
    call.kernel.backward(rows, inputs, {nullptr, dtensors.data_ptr(), denv.data_ptr(), part});
  });
  return {dtensors, denv, dweight};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> contract_double_backward(Tensor along_tensors, Tensor along_env,
                                                                    Tensor along_weight, Tensor grad, Tensor tensors,
                                                                    Tensor env, Tensor weight, Tensor row_ptr,
                                                                    StringHandle handle) {
  const std::string spec = owned(handle);
  const Contraction call(tensors, row_ptr, spec);
  const auto point = call.point("", tensors, env, weight);
  const auto direction = call.point("along_", along_tensors, along_env, along_weight);
  const Tensor g = call.gradient(grad);
  Tensor dgrad = like(grad), dtensors = like(tensors), denv = like(env);
  const auto inputs = point.inputs(g.data_ptr()), along = direction.inputs(nullptr);
  const Tensor dweight = call.sum_over_blocks(weight, [&](const ContractionRows& rows, void* part) {
    call.kernel.double_backward(rows, inputs, along,
                                {dgrad.data_ptr(), dtensors.data_ptr(), denv.data_ptr(), part});
  });
  return {dgrad, dtensors, denv, dweight};
}

}  // namespace

// As nequip_load_conv.
extern "C" const char* nequip_load_contraction(const char* spec, int scalar_bytes, const char* path) {
  return Registry<ContractionKernel>::of().load(
      "contraction", spec, scalar_bytes, path, [](ContractionKernel& kernel, const Library& library) {
        library.find(kernel.forward, "contraction_forward");
        library.find(kernel.backward, "contraction_backward");
        library.find(kernel.double_backward, "contraction_double_backward");
      });
}
