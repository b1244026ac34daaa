// The operators `nequip::contract_symmetric...` of MACE: check the arguments, sort atoms by type, share them out
// among threads, call the kernel that was generated for the specification.
#pragma once
#include <algorithm>
#include <memory>
#include <new>
#include <tuple>
#include <vector>

#include "kernel_registry.h"
#include "symmetric_abi.h"
#include "tensors.h"

namespace {

constexpr int SYMMETRIC_ORDERS = 4;

struct SymmetricFunctions {
  symmetric_coefficients_t* coefficients = nullptr;
  symmetric_value_t* value = nullptr;
  symmetric_gradient_t* gradient = nullptr;
  symmetric_collect_t* collect = nullptr;
};
struct SymmetricKernel {
  const int32_t* sizes = nullptr;  // columns of x, out and weight, vectors of channels, bytes of coefficients
  SymmetricFunctions of[SYMMETRIC_ORDERS][2];
};

// Bytes that vectors may lie in; not initialised.
class VectorMemory {
 public:
  explicit VectorMemory(int64_t bytes) : bytes_(static_cast<char*>(::operator new(bytes + 1, ALIGNMENT))) {}
  char* at(int64_t offset) const { return bytes_.get() + offset; }

 private:
  static constexpr std::align_val_t ALIGNMENT{64};
  struct Delete {
    void operator()(char* bytes) const { ::operator delete(bytes, ALIGNMENT); }
  };
  std::unique_ptr<char, Delete> bytes_;
};

// Atoms sorted by type, and cut into pieces of one type. They depend on the types alone and not on the number of
// threads, and so do sums over atoms.
struct AtomsByType {
  struct Piece {
    int64_t first, count, present;  // `present`: counted through the types that there are
  };
  std::vector<int64_t> atoms, present;
  std::vector<Piece> pieces;

  AtomsByType(const int64_t* types, int64_t count, int64_t num_types) : atoms(count) {
    std::vector<int64_t> ends(num_types + 1, 0);
    for (int64_t n = 0; n < count; ++n) {
      STD_TORCH_CHECK(types[n] >= 0 && types[n] < num_types, "contract_symmetric: types[", n, "] is ", types[n],
                      ", but there are ", num_types, " rows of weights");
      ++ends[types[n] + 1];
    }
    for (int64_t type = 0; type < num_types; ++type) ends[type + 1] += ends[type];
    auto place = ends;
    for (int64_t n = 0; n < count; ++n) atoms[place[types[n]]++] = n;
    const int64_t size = std::max<int64_t>(32, count / 64);
    for (int64_t type = 0; type < num_types; ++type) {
      if (ends[type] == ends[type + 1]) continue;
      for (int64_t first = ends[type]; first < ends[type + 1]; first += size)
        pieces.push_back({first, std::min(size, ends[type + 1] - first), static_cast<int64_t>(present.size())});
      present.push_back(type);
    }
  }
};

struct SymmetricCall {
  SymmetricKernel kernel;
  SymmetricFunctions functions;
  ScalarType type;
  Tensor x, weight;
  int64_t rows, num_types, order;
  bool moving;

  SymmetricCall(const Tensor& x_, const Tensor& weight_, const std::string& spec, int64_t order_, bool moving_)
      : type(x_.scalar_type()), rows(x_.dim() == 2 ? x_.size(0) : -1), order(order_), moving(moving_) {
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                    "contract_symmetric: x is neither float32 nor float64");
    kernel = Registry<SymmetricKernel>::of().find(spec, scalar_bytes());
    STD_TORCH_CHECK(order < SYMMETRIC_ORDERS, "contract_symmetric: there are no kernels of order ", order);
    functions = kernel.of[order][moving];
    STD_TORCH_CHECK(functions.gradient != nullptr, "contract_symmetric: no kernel was loaded for ", spec, ", order ",
                    order);
    check_matrix("contract_symmetric", "x", x_, -1, columns_in(), type);
    check_matrix("contract_symmetric", "weight", weight_, -1, columns_weight(), type);
    num_types = weight_.size(0);
    x = torch::stable::contiguous(x_);
    weight = torch::stable::contiguous(weight_);
  }

  int64_t columns_in() const { return kernel.sizes[0]; }
  int64_t columns_out() const { return kernel.sizes[1]; }
  int64_t columns_weight() const { return kernel.sizes[2]; }
  int64_t blocks() const { return kernel.sizes[3]; }
  int scalar_bytes() const { return type == ScalarType::Float ? 4 : 8; }
  int64_t coefficient_bytes() const { return int64_t(kernel.sizes[4]) << (moving ? order : 0); }

  Tensor gradient_of(const Tensor& grad) const {
    check_matrix("contract_symmetric", "grad", grad, rows, columns_out(), type);
    return torch::stable::contiguous(grad);
  }
  Tensor directions(const char* name, const Tensor& along, int64_t count, int64_t columns) const {
    STD_TORCH_CHECK(along.device().is_cpu() && along.scalar_type() == type && along.dim() == 3 &&
                        along.size(0) == order && along.size(1) == count && along.size(2) == columns,
                    "contract_symmetric: ", name, " is ", shape(along), ", not [", order, ", ", count, ", ", columns,
                    "] of the dtype of x");
    return torch::stable::contiguous(along);
  }
  AtomsByType sorted(const Tensor& types) const {
    check_indices("contract_symmetric", "types", types, rows);
    const Tensor given = torch::stable::contiguous(types);
    return AtomsByType(data<const int64_t>(given), rows, num_types);
  }

  // The array, then the directions.
  static std::vector<const void*> pointers(const Tensor& point, const Tensor* along) {
    std::vector<const void*> found{point.data_ptr()};
    for (int64_t v = 0; along != nullptr && v < along->size(0); ++v)
      found.push_back(static_cast<const char*>(along->data_ptr()) + v * point.numel() * point.element_size());
    return found;
  }

  // [type that there is, vector of channels]
  VectorMemory coefficients(const AtomsByType& sorted, const Tensor* along_weight) const {
    VectorMemory memory(sorted.present.size() * blocks() * coefficient_bytes());
    const auto weights = pointers(weight, along_weight);
    const int64_t row_bytes = columns_weight() * scalar_bytes();
    parallel(sorted.present.size() * blocks(), 1, [&](int64_t i) {
      auto rows_of_type = weights;
      for (auto& row : rows_of_type) row = static_cast<const char*>(row) + sorted.present[i / blocks()] * row_bytes;
      functions.coefficients(rows_of_type.data(), i % blocks(), memory.at(i * coefficient_bytes()));
    });
    return memory;
  }

  // run(piece, number of the piece and vector) for every piece of atoms and vector of channels.
  template <class Run>
  void in_pieces(const AtomsByType& sorted, const VectorMemory& coefficients, Run run) const {
    parallel(sorted.pieces.size() * blocks(), 2, [&](int64_t i) {
      const auto& piece = sorted.pieces[i / blocks()];
      const int64_t block = i % blocks();
      run(SymmetricPiece{sorted.atoms.data() + piece.first, piece.count, block,
                         coefficients.at((piece.present * blocks() + block) * coefficient_bytes())},
          i);
    });
  }

  // Sums over the pieces of each type, in their order, as the gradient by weights.
  Tensor collect(const AtomsByType& sorted, const VectorMemory& parts) const {
    Tensor total = zeros_like(weight);
    const int64_t bytes = kernel.sizes[4];
    parallel(sorted.present.size() * blocks(), 1, [&](int64_t i) {
      const int64_t present = i / blocks(), block = i % blocks();
      char* sum = nullptr;
      for (size_t p = 0; p < sorted.pieces.size(); ++p) {
        if (sorted.pieces[p].present != present) continue;
        char* part = parts.at((p * blocks() + block) * bytes);
        if (sum == nullptr) sum = part;
        else if (type == ScalarType::Float) add_array<float>(part, bytes, sum);
        else add_array<double>(part, bytes, sum);
      }
      char* row = static_cast<char*>(total.data_ptr()) + sorted.present[present] * columns_weight() * scalar_bytes();
      functions.collect(sum, block, row);
    });
    return total;
  }
  template <class Scalar>
  static void add_array(const char* part, int64_t bytes, char* sum) {
    const auto* from = reinterpret_cast<const Scalar*>(part);
    auto* to = reinterpret_cast<Scalar*>(sum);
    for (size_t i = 0; i < bytes / sizeof(Scalar); ++i) to[i] += from[i];
  }

  // The gradients by grad (into `dgrad`, at orders above 0), x and weight; the last has no rows unless wanted.
  std::tuple<Tensor, Tensor> gradient(const Tensor& types, const SymmetricInputs& inputs, const Tensor* along_weight,
                                      bool with_weight, void* dgrad) const {
    const auto sorted_atoms = sorted(types);
    const auto coefs = coefficients(sorted_atoms, along_weight);
    Tensor dx = like(x);
    const int64_t bytes = with_weight ? kernel.sizes[4] : 0;
    const VectorMemory parts(sorted_atoms.pieces.size() * blocks() * bytes);
    void* dx_data = dx.data_ptr();
    in_pieces(sorted_atoms, coefs, [&](const SymmetricPiece& piece, int64_t i) {
      char* part = with_weight ? parts.at(i * bytes) : nullptr;
      if (with_weight) std::fill(part, part + bytes, 0);
      functions.gradient(piece, inputs, {dgrad, dx_data, part});
    });
    if (with_weight) return {dx, collect(sorted_atoms, parts)};
    return {dx, torch::stable::new_empty(weight, {0, columns_weight()})};
  }
};

Tensor contract_symmetric(Tensor x, Tensor weight, Tensor types, StringHandle handle) {
  const std::string spec = owned(handle);
  const SymmetricCall call(x, weight, spec, 0, false);
  const auto sorted = call.sorted(types);
  const auto coefficients = call.coefficients(sorted, nullptr);
  Tensor out = allocate(x, {call.rows, call.columns_out()});
  const void* from = call.x.data_ptr();
  void* to = out.data_ptr();
  call.in_pieces(sorted, coefficients,
                 [&](const SymmetricPiece& piece, int64_t) { call.functions.value(piece, from, to); });
  return out;
}

std::tuple<Tensor, Tensor> contract_symmetric_backward(Tensor grad, Tensor x, Tensor weight, Tensor types,
                                                       StringHandle handle, bool with_weight) {
  const std::string spec = owned(handle);
  const SymmetricCall call(x, weight, spec, 0, false);
  const Tensor g = call.gradient_of(grad);
  const auto grads = call.pointers(g, nullptr), xs = call.pointers(call.x, nullptr);
  return call.gradient(types, {grads.data(), xs.data()}, nullptr, with_weight, nullptr);
}

// Along as many directions as along_x has; where along_weight has no rows, weights do not change along them.
std::tuple<Tensor, Tensor, Tensor> contract_symmetric_derivative(Tensor along_grad, Tensor along_x,
                                                                 Tensor along_weight, Tensor grad, Tensor x,
                                                                 Tensor weight, Tensor types, StringHandle handle,
                                                                 bool with_weight) {
  const std::string spec = owned(handle);
  STD_TORCH_CHECK(along_x.dim() == 3 && along_x.size(0) > 0 && along_weight.dim() == 3,
                  "contract_symmetric: along_x is ", shape(along_x), ", not [directions, rows, columns]");
  const bool moving = along_weight.size(1) > 0;
  const SymmetricCall call(x, weight, spec, along_x.size(0), moving);
  const Tensor g = call.gradient_of(grad), a = call.directions("along_grad", along_grad, call.rows, call.columns_out()),
               b = call.directions("along_x", along_x, call.rows, call.columns_in()),
               c = call.directions("along_weight", along_weight, moving ? call.num_types : 0, call.columns_weight());
  Tensor dgrad = like(grad);
  const auto grads = call.pointers(g, &a), xs = call.pointers(call.x, &b);
  const auto [dx, dweight] =
      call.gradient(types, {grads.data(), xs.data()}, moving ? &c : nullptr, with_weight, dgrad.data_ptr());
  return {dgrad, dx, dweight};
}

}  // namespace

// As nequip_load_conv.
extern "C" const char* nequip_load_symmetric(const char* spec, int scalar_bytes, const char* path) {
  return Registry<SymmetricKernel>::of().load(
      "symmetric", spec, scalar_bytes, path, [](SymmetricKernel& kernel, const Library& library) {
        for (int order = 0; order < SYMMETRIC_ORDERS; ++order)
          for (int moving = 0; moving < 2; ++moving) {
            auto& functions = kernel.of[order][moving];
            const auto suffix = "_" + std::to_string(order) + "_" + std::to_string(moving);
            library.find(functions.coefficients, "symmetric_coefficients" + suffix);
            library.find(functions.value, "symmetric_value" + suffix);
            library.find(functions.gradient, "symmetric_gradient" + suffix);
            library.find(functions.collect, "symmetric_collect" + suffix);
          }
      });
}
