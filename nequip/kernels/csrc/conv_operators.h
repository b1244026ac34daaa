// The operators `nequip::conv...`: check the arguments, share the rows out among threads, call the kernel
// that was generated for the specification.
#pragma once
#include <algorithm>
#include <tuple>
#include <vector>

#include "blocks.h"
#include "conv_abi.h"
#include "kernel_registry.h"
#include "tensors.h"

namespace {

struct Kernel {
  const int32_t* sizes = nullptr;  // columns of x, sh, weight, out
  conv_forward_t* forward = nullptr;
  conv_backward_t* backward = nullptr;
  conv_table_forward_t* table_forward = nullptr;
  conv_table_backward_t* table_backward = nullptr;
  conv_double_backward_t* double_backward = nullptr;
};

// The edges of a call, checked: no kernel reads or writes outside its arrays whatever it is given.
struct Rows {
  Tensor row_ptr_tensor, neighbor_tensor;
  const int64_t *row_ptr, *neighbor;
  int64_t count, edges;

  Rows(const Tensor& center, const Tensor& neighbors, const Tensor& pointers, int64_t sources)
      : row_ptr_tensor(torch::stable::contiguous(pointers)), neighbor_tensor(torch::stable::contiguous(neighbors)) {
    check_indices("conv", "row_ptr", pointers, -1);
    STD_TORCH_CHECK(pointers.size(0) > 0, "conv: row_ptr is empty; it has one entry more than there are rows");
    edges = neighbors.dim() == 1 ? neighbors.size(0) : -1;
    check_indices("conv", "neighbor", neighbors, edges);
    check_indices("conv", "center", center, edges);
    const Tensor centers = torch::stable::contiguous(center);
    const auto* centers_data = data<const int64_t>(centers);
    row_ptr = data<const int64_t>(row_ptr_tensor);
    neighbor = data<const int64_t>(neighbor_tensor);
    count = pointers.size(0) - 1;
    check_row_ptr("conv", row_ptr, count, edges);
    for (int64_t row = 0; row < count; ++row)
      for (int64_t edge = row_ptr[row]; edge < row_ptr[row + 1]; ++edge) {
        STD_TORCH_CHECK(centers_data[edge] == row, "conv: center[", edge, "] is ", centers_data[edge],
                        " where row_ptr has row ", row, ": edges must be sorted by center");
        STD_TORCH_CHECK(neighbor[edge] >= 0 && neighbor[edge] < sources, "conv: neighbor[", edge, "] is ",
                        neighbor[edge], ", but x has ", sources, " rows");
      }
  }
};

struct Call {
  Kernel kernel;
  ScalarType type;
  Rows rows;
  Tensor x, sh;

  Call(const Tensor& x_, const Tensor& sh_, const Tensor& center, const Tensor& neighbor, const Tensor& row_ptr,
       const std::string& spec)
      : kernel(find(spec, x_)), type(x_.scalar_type()), rows(center, neighbor, row_ptr, x_.size(0)),
        x(torch::stable::contiguous(x_)), sh(torch::stable::contiguous(sh_)) {
    check_matrix("conv", "x", x_, -1, kernel.sizes[0], type);
    check_matrix("conv", "sh", sh_, rows.edges, kernel.sizes[1], type);
  }

  static Kernel find(const std::string& spec, const Tensor& x) {
    STD_TORCH_CHECK(x.dim() == 2, "conv: x is ", shape(x), ", not [rows, columns]");
    const auto type = x.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "conv: x is neither float32 nor float64");
    const Kernel found = Registry<Kernel>::of().find(spec, type == ScalarType::Float ? 4 : 8);
    STD_TORCH_CHECK(found.forward != nullptr, "conv: no kernel was loaded for ", spec);
    return found;
  }

  Tensor weights(const char* name, const Tensor& weight) const {
    check_matrix("conv", name, weight, rows.edges, kernel.sizes[2], type);
    return torch::stable::contiguous(weight);
  }
  Tensor gradient(const Tensor& grad) const {
    check_matrix("conv", "grad", grad, rows.count, kernel.sizes[3], type);
    return torch::stable::contiguous(grad);
  }
  ConvInputs inputs(const void* weight, const void* grad) const {
    return {x.data_ptr(), sh.data_ptr(), weight, grad};
  }
  ConvRows block(int64_t first, int64_t last, const int32_t* slot) const {
    return {first, last, rows.row_ptr, rows.neighbor, slot};
  }
};

// What one block adds to dx: rows for the sources that it touches, and for no others.
struct Share {
  std::vector<int32_t> slot;       // of each edge of the block
  std::vector<int64_t> sources;    // of each slot
  std::vector<int32_t> slot_of;    // of each source, -1 where it has none
  std::vector<char> values;

  void assign(const Rows& rows, int64_t num_sources, int64_t first, int64_t last, int64_t row_bytes) {
    const int64_t begin = rows.row_ptr[first], end = rows.row_ptr[last];
    slot_of.resize(num_sources, -1);
    slot.resize(end - begin);
    for (const int64_t source : sources) slot_of[source] = -1;
    sources.clear();
    for (int64_t edge = begin; edge < end; ++edge) {
      int32_t& place = slot_of[rows.neighbor[edge]];
      if (place < 0) {
        place = static_cast<int32_t>(sources.size());
        sources.push_back(rows.neighbor[edge]);
      }
      slot[edge - begin] = place;
    }
    values.assign(sources.size() * row_bytes, 0);
  }
};

template <class Scalar>
void add_share(const Share& share, int64_t columns, Scalar* dx) {
  const auto* values = reinterpret_cast<const Scalar*>(share.values.data());
  parallel(share.sources.size(), 32, [&](int64_t slot) {
    Scalar* row = dx + share.sources[slot] * columns;
    for (int64_t column = 0; column < columns; ++column) row[column] += values[slot * columns + column];
  });
}

// run(rows, dx) for every block, several at a time, each with a dx of its own; these are then added in
// the order of the blocks. Without atomics, and without an array over edges.
constexpr int64_t SHARES_BYTES = int64_t(1) << 28;

template <class Run>
void in_blocks(const Call& call, void* dx, Run run) {
  const auto boundaries = blocks_of(call.rows.row_ptr, call.rows.count);
  const int64_t blocks = boundaries.size() - 1, columns = call.kernel.sizes[0];
  const int64_t row_bytes = columns * (call.type == ScalarType::Float ? 4 : 8);
  int64_t largest = 1;
  for (int64_t b = 0; b < blocks; ++b)
    largest = std::max(largest, call.rows.row_ptr[boundaries[b + 1]] - call.rows.row_ptr[boundaries[b]]);
  largest = std::max<int64_t>(std::min(largest, call.x.size(0)) * row_bytes, 1);
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t wave = std::clamp<int64_t>(SHARES_BYTES / largest, threads, 4 * threads);
  std::vector<Share> shares(std::min(wave, blocks));
  for (int64_t start = 0; start < blocks; start += wave) {
    const int64_t count = std::min(wave, blocks - start);
    parallel(count, 1, [&](int64_t i) {
      const int64_t first = boundaries[start + i], last = boundaries[start + i + 1];
      shares[i].assign(call.rows, call.x.size(0), first, last, row_bytes);
      run(call.block(first, last, shares[i].slot.data()), shares[i].values.data());
    });
    for (int64_t i = 0; i < count; ++i) {
      if (call.type == ScalarType::Float) add_share(shares[i], columns, static_cast<float*>(dx));
      else add_share(shares[i], columns, static_cast<double*>(dx));
    }
  }
}

#define EDGES Tensor center, Tensor neighbor, Tensor row_ptr, Tensor transpose, StringHandle handle

// run(rows) for every block of rows.
template <class Run>
void for_blocks(const Call& call, Run run) {
  const auto boundaries = blocks_of(call.rows.row_ptr, call.rows.count);
  parallel(boundaries.size() - 1, 1, [&](int64_t b) { run(call.block(boundaries[b], boundaries[b + 1], nullptr)); });
}

Tensor conv(Tensor x, Tensor sh, Tensor weight, EDGES) {
  const std::string spec = owned(handle);
  const Call call(x, sh, center, neighbor, row_ptr, spec);
  const Tensor w = call.weights("weight", weight);
  Tensor out = allocate(x, {call.rows.count, call.kernel.sizes[3]});
  const auto inputs = call.inputs(w.data_ptr(), nullptr);
  void* result = out.data_ptr();
  for_blocks(call, [&](const ConvRows& rows) { call.kernel.forward(rows, inputs, result); });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> conv_backward(Tensor grad, Tensor x, Tensor sh, Tensor weight, EDGES) {
  const std::string spec = owned(handle);
  const Call call(x, sh, center, neighbor, row_ptr, spec);
  const Tensor w = call.weights("weight", weight), g = call.gradient(grad);
  Tensor dx = zeros_like(x), dsh = like(sh), dweight = like(weight);
  const auto inputs = call.inputs(w.data_ptr(), g.data_ptr());
  const ConvOutputs outputs{nullptr, nullptr, dsh.data_ptr(), dweight.data_ptr()};
  in_blocks(call, dx.data_ptr(), [&](const ConvRows& rows, void* share) {
    call.kernel.backward(rows, inputs, {nullptr, share, outputs.sh, outputs.weight});
  });
  return {dx, dsh, dweight};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> conv_double_backward(Tensor along_x, Tensor along_sh, Tensor along_weight,
                                                                Tensor grad, Tensor x, Tensor sh, Tensor weight,
                                                                EDGES) {
  const std::string spec = owned(handle);
  const Call call(x, sh, center, neighbor, row_ptr, spec);
  STD_TORCH_CHECK(call.kernel.double_backward != nullptr, "conv: no second-order kernel was loaded for ", spec);
  check_matrix("conv", "along_x", along_x, x.size(0), x.size(1), call.type);
  check_matrix("conv", "along_sh", along_sh, sh.size(0), sh.size(1), call.type);
  const Tensor w = call.weights("weight", weight), g = call.gradient(grad),
               a = torch::stable::contiguous(along_x), b = torch::stable::contiguous(along_sh),
               c = call.weights("along_weight", along_weight);
  Tensor dgrad = like(grad), dx = zeros_like(x), dsh = like(sh), dweight = like(weight);
  const auto inputs = call.inputs(w.data_ptr(), g.data_ptr());
  const ConvInputs direction{a.data_ptr(), b.data_ptr(), c.data_ptr(), nullptr};
  const ConvOutputs outputs{dgrad.data_ptr(), nullptr, dsh.data_ptr(), dweight.data_ptr()};
  in_blocks(call, dx.data_ptr(), [&](const ConvRows& rows, void* share) {
    call.kernel.double_backward(rows, inputs, direction, {outputs.grad, share, outputs.sh, outputs.weight});
  });
  return {dgrad, dx, dsh, dweight};
}

// Weights from a table of splines: see ConvTable.
struct Table {
  Tensor knots, position;

  Table(const Call& call, const Tensor& knots_, const Tensor& position_)
      : knots(torch::stable::contiguous(knots_)), position(torch::stable::contiguous(position_)) {
    STD_TORCH_CHECK(knots.device().is_cpu() && knots.scalar_type() == call.type && knots.dim() == 3 &&
                        knots.size(0) >= 2 && knots.size(1) == 3 && knots.size(2) == call.kernel.sizes[2],
                    "conv_table: knots are ", shape(knots), ", not [2 or more, 3, ", call.kernel.sizes[2],
                    "] of the dtype of x");
    STD_TORCH_CHECK(position.device().is_cpu() && position.scalar_type() == ScalarType::Double &&
                        position.dim() == 1 && position.size(0) == call.rows.edges,
                    "conv_table: position is ", shape(position), ", not [", call.rows.edges, "] in float64");
  }
  ConvTable view(double* dposition) const {
    return {knots.data_ptr(), knots.size(0) - 1, data<const double>(position), dposition};
  }
};

Tensor conv_table(Tensor x, Tensor sh, Tensor position, Tensor knots, EDGES) {
  const std::string spec = owned(handle);
  const Call call(x, sh, center, neighbor, row_ptr, spec);
  const Table table(call, knots, position);
  Tensor out = allocate(x, {call.rows.count, call.kernel.sizes[3]});
  const auto inputs = call.inputs(nullptr, nullptr);
  void* result = out.data_ptr();
  for_blocks(call, [&](const ConvRows& rows) { call.kernel.table_forward(rows, inputs, table.view(nullptr), result); });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> conv_table_backward(Tensor grad, Tensor x, Tensor sh, Tensor position, Tensor knots,
                                                       EDGES) {
  const std::string spec = owned(handle);
  const Call call(x, sh, center, neighbor, row_ptr, spec);
  const Table table(call, knots, position);
  const Tensor g = call.gradient(grad);
  Tensor dx = zeros_like(x), dsh = like(sh), dposition = like(position);
  const auto inputs = call.inputs(nullptr, g.data_ptr());
  const ConvTable view = table.view(data<double>(dposition));
  void* dsh_data = dsh.data_ptr();
  in_blocks(call, dx.data_ptr(), [&](const ConvRows& rows, void* share) {
    call.kernel.table_backward(rows, inputs, view, {nullptr, share, dsh_data, nullptr});
  });
  return {dx, dsh, dposition};
}

}  // namespace

// Loads the kernel library at `path` for a specification and a scalar of that many bytes. Returns
// nullptr, or what is wrong; the text lives until the next call in this thread.
extern "C" const char* nequip_load_conv(const char* spec, int scalar_bytes, const char* path) {
  return Registry<Kernel>::of().load("conv", spec, scalar_bytes, path, [](Kernel& kernel, const Library& library) {
    library.find(kernel.forward, "conv_forward");
    library.find(kernel.backward, "conv_backward");
    library.find(kernel.table_forward, "conv_table_forward");
    library.find(kernel.table_backward, "conv_table_backward");
    library.find(kernel.double_backward, "conv_double_backward");
  });
}
