// The operators `nequip::map_irreps...`: a matrix for each irrep, all irreps in one call.
#pragma once
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "tensors.h"
#include "vector_bytes.h"

namespace {

struct LinearBlock {
  int64_t dim, fan_in, fan_out, column_in, column_out, column_weight;
};

struct LinearLayout {
  int64_t columns_in, columns_out, columns_weight;
  std::vector<LinearBlock> blocks;

  // "in,out,weights;dim,fan_in,fan_out,column_in,column_out,column_weight;..."
  explicit LinearLayout(const std::string& text) {
    std::vector<int64_t> numbers;
    const char* p = text.c_str();
    while (*p != '\0') {
      char* end;
      numbers.push_back(std::strtoll(p, &end, 10));
      STD_TORCH_CHECK(end != p, "map_irreps: the specification ", text, " cannot be read");
      p = *end == '\0' ? end : end + 1;
    }
    STD_TORCH_CHECK(numbers.size() >= 3 && numbers.size() % 6 == 3, "map_irreps: the specification ", text,
                    " cannot be read");
    columns_in = numbers[0], columns_out = numbers[1], columns_weight = numbers[2];
    for (size_t i = 3; i < numbers.size(); i += 6) {
      const LinearBlock b{numbers[i],     numbers[i + 1], numbers[i + 2],
                          numbers[i + 3], numbers[i + 4], numbers[i + 5]};
      STD_TORCH_CHECK(b.dim > 0 && b.fan_in > 0 && b.fan_out > 0 && b.column_in >= 0 && b.column_out >= 0 &&
                          b.column_weight >= 0 && b.column_in + b.dim * b.fan_in <= columns_in &&
                          b.column_out + b.dim * b.fan_out <= columns_out &&
                          b.column_weight + b.fan_in * b.fan_out <= columns_weight,
                      "map_irreps: the specification ", text, " reaches outside its arrays");
      blocks.push_back(b);
    }
  }
};

// Types of atoms, or none: one row of weights for all.
struct Types {
  Tensor tensor;
  const int64_t* data_;

  Types(const Tensor& types, int64_t atoms, int64_t num_types) : tensor(torch::stable::contiguous(types)) {
    const bool none = types.dim() == 1 && types.size(0) == 0;
    check_indices("map_irreps", "types", types, none ? 0 : atoms);
    data_ = none ? nullptr : data<const int64_t>(tensor);
    STD_TORCH_CHECK(num_types > 0, "map_irreps: there is no row of weights");
    for (int64_t n = 0; data_ != nullptr && n < atoms; ++n)
      STD_TORCH_CHECK(data_[n] >= 0 && data_[n] < num_types, "map_irreps: types[", n, "] is ", data_[n], ", but there are ",
                      num_types, " rows of weights");
  }
  int64_t operator[](int64_t atom) const { return data_ == nullptr ? 0 : data_[atom]; }
};

template <class Scalar>
struct Wide {
  typedef Scalar Vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(Scalar)), may_alias));
  static constexpr int64_t LANES = VECTOR_BYTES / sizeof(Scalar);

  static Vector load(const Scalar* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(Scalar* p, Vector v) { std::memcpy(p, &v, sizeof v); }
};

// One row of features and where its image goes.
template <class Scalar>
struct Row {
  const Scalar* from;
  Scalar* to;
};

// to[v] = scale * sum_u from[u] w[u, v] for R rows and C vectors of columns at once, from column `start`.
template <class Scalar, int R, int C>
void multiply_tile(const Row<Scalar>* rows, int64_t inner, const Scalar* w, int64_t outer, int64_t start, Scalar scale) {
  using W = Wide<Scalar>;
  typename W::Vector total[R][C] = {};
  for (int64_t u = 0; u < inner; ++u) {
    typename W::Vector column[C];
    for (int c = 0; c < C; ++c) column[c] = W::load(w + u * outer + start + c * W::LANES);
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) total[r][c] += rows[r].from[u] * column[c];
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) W::store(rows[r].to + start + c * W::LANES, scale * total[r][c]);
}

template <class Scalar, int R>
void multiply_rows(const Row<Scalar>* rows, int64_t inner, const Scalar* w, int64_t outer, Scalar scale) {
  constexpr int64_t LANES = Wide<Scalar>::LANES;
  int64_t start = 0;
  for (; start + 2 * LANES <= outer; start += 2 * LANES) multiply_tile<Scalar, R, 2>(rows, inner, w, outer, start, scale);
  for (; start + LANES <= outer; start += LANES) multiply_tile<Scalar, R, 1>(rows, inner, w, outer, start, scale);
  for (; start < outer; ++start)
    for (int r = 0; r < R; ++r) {
      Scalar total = 0;
      for (int64_t u = 0; u < inner; ++u) total += rows[r].from[u] * w[u * outer + start];
      rows[r].to[start] = scale * total;
    }
}

template <class Scalar>
void multiply(const std::vector<Row<Scalar>>& rows, int64_t inner, const Scalar* w, int64_t outer, Scalar scale) {
  size_t r = 0;
  for (; r + 6 <= rows.size(); r += 6) multiply_rows<Scalar, 6>(&rows[r], inner, w, outer, scale);
  for (; r + 3 <= rows.size(); r += 3) multiply_rows<Scalar, 3>(&rows[r], inner, w, outer, scale);
  for (; r < rows.size(); ++r) multiply_rows<Scalar, 1>(&rows[r], inner, w, outer, scale);
}

constexpr int64_t ATOMS_AT_ONCE = 6;

template <class Scalar>
void map_atoms(const LinearLayout& layout, const Tensor& x, const Tensor& weight, const Types& types, bool transposed,
               Tensor& out) {
  const int64_t atoms = x.size(0), columns = x.size(1), results = out.size(1), per_type = layout.columns_weight;
  const auto *from = data<const Scalar>(x), *weights = data<const Scalar>(weight);
  auto* to = data<Scalar>(out);
  std::unique_ptr<Scalar[]> turned;  // the transposed matrices, so that both directions run along rows
  if (transposed) {
    turned.reset(new Scalar[weight.numel()]);
    const int64_t matrices = layout.blocks.size();
    std::vector<char> present(weight.size(0), 0);  // there may be many more types than atoms
    for (int64_t n = 0; n < atoms; ++n) present[types[n]] = 1;
    parallel(weight.size(0) * matrices, 1, [&](int64_t i) {
      if (!present[i / matrices]) return;
      const auto& b = layout.blocks[i % matrices];
      const int64_t first = i / matrices * per_type + b.column_weight;
      constexpr int64_t TILE = 16;  // a square whose rows on both sides stay in the first cache
      for (int64_t start = 0; start < b.fan_in; start += TILE)
        for (int64_t v = 0; v < b.fan_out; ++v)
          for (int64_t u = start; u < std::min(start + TILE, b.fan_in); ++u)
            turned[first + v * b.fan_in + u] = weights[first + u * b.fan_out + v];
    });
    weights = turned.get();
  }
  parallel((atoms + ATOMS_AT_ONCE - 1) / ATOMS_AT_ONCE, 2, [&](int64_t group) {
    const int64_t first = group * ATOMS_AT_ONCE, last = std::min(atoms, first + ATOMS_AT_ONCE);
    std::fill(to + first * results, to + last * results, Scalar(0));
    std::vector<Row<Scalar>> rows;
    for (const auto& b : layout.blocks) {
      const int64_t inner = transposed ? b.fan_out : b.fan_in, outer = transposed ? b.fan_in : b.fan_out;
      const int64_t column = transposed ? b.column_out : b.column_in, result = transposed ? b.column_in : b.column_out;
      const Scalar scale = Scalar(1) / std::sqrt(Scalar(b.fan_in));
      for (int64_t n = first; n < last; ++n) {
        for (int64_t c = 0; c < b.dim; ++c)
          rows.push_back({from + n * columns + column + c * inner, to + n * results + result + c * outer});
        if (n + 1 == last || types[n + 1] != types[n]) {  // atoms of one type go through their matrix together
          multiply(rows, inner, weights + types[n] * per_type + b.column_weight, outer, scale);
          rows.clear();
        }
      }
    }
  });
}

Tensor map_irreps(Tensor x, Tensor weight, Tensor types, StringHandle handle, bool transposed) {
  const std::string spec = owned(handle);
  const LinearLayout layout(spec);
  const auto type = x.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "map_irreps: x is neither float32 nor float64");
  check_matrix("map_irreps", "x", x, -1, transposed ? layout.columns_out : layout.columns_in, type);
  check_matrix("map_irreps", "weight", weight, -1, layout.columns_weight, type);
  const Types of_atoms(types, x.size(0), weight.size(0));
  const Tensor from = torch::stable::contiguous(x), weights = torch::stable::contiguous(weight);
  Tensor out = allocate(x, {x.size(0), transposed ? layout.columns_in : layout.columns_out});
  if (type == ScalarType::Float) map_atoms<float>(layout, from, weights, of_atoms, transposed, out);
  else map_atoms<double>(layout, from, weights, of_atoms, transposed, out);
  return out;
}

// dW[u, v] = scale * sum over the rows of atoms of one type of x[u] grad[v]: U rows of weights, one vector.
template <class Scalar, int U>
void weight_tile(const std::vector<int64_t>& atoms, const LinearBlock& b, const Scalar* x, int64_t columns_in,
                 const Scalar* grad, int64_t columns_out, Scalar* out) {
  using W = Wide<Scalar>;
  const Scalar scale = Scalar(1) / std::sqrt(Scalar(b.fan_in));
  int64_t start = 0;
  for (; start + W::LANES <= b.fan_out; start += W::LANES) {
    typename W::Vector total[U] = {};
    for (const int64_t n : atoms)
      for (int64_t c = 0; c < b.dim; ++c) {
        const auto g = W::load(grad + n * columns_out + b.column_out + c * b.fan_out + start);
        const Scalar* row = x + n * columns_in + b.column_in + c * b.fan_in;
        for (int u = 0; u < U; ++u) total[u] += row[u] * g;
      }
    for (int u = 0; u < U; ++u) W::store(out + u * b.fan_out + start, scale * total[u]);
  }
  for (; start < b.fan_out; ++start)
    for (int u = 0; u < U; ++u) {
      Scalar total = 0;
      for (const int64_t n : atoms)
        for (int64_t c = 0; c < b.dim; ++c)
          total += x[n * columns_in + b.column_in + c * b.fan_in + u] *
                   grad[n * columns_out + b.column_out + c * b.fan_out + start];
      out[u * b.fan_out + start] = scale * total;
    }
}

template <class Scalar>
void weight_gradient(const LinearLayout& layout, const Tensor& x, const Tensor& grad, const Types& types, Tensor& out) {
  constexpr int64_t ROWS = 8;
  const auto *left = data<const Scalar>(x), *right = data<const Scalar>(grad);
  auto* to = data<Scalar>(out);
  std::vector<std::vector<int64_t>> atoms(out.size(0));
  for (int64_t n = 0; n < x.size(0); ++n) atoms[types[n]].push_back(n);
  struct Piece {
    const LinearBlock* block;
    int64_t type, u;
  };
  std::vector<Piece> pieces;
  for (int64_t type = 0; type < out.size(0); ++type)
    for (const auto& b : layout.blocks)
      for (int64_t u = 0; u < b.fan_in; u += ROWS) pieces.push_back({&b, type, u});
  parallel(pieces.size(), 8, [&](int64_t i) {
    const auto [block, type, begin] = pieces[i];
    const LinearBlock& b = *block;
    Scalar* target = to + type * layout.columns_weight + b.column_weight;
    int64_t u = begin;
    if (u + ROWS <= b.fan_in) {
      weight_tile<Scalar, ROWS>(atoms[type], b, left + u, layout.columns_in, right, layout.columns_out, target + u * b.fan_out);
      return;
    }
    for (; u < b.fan_in; ++u)
      weight_tile<Scalar, 1>(atoms[type], b, left + u, layout.columns_in, right, layout.columns_out, target + u * b.fan_out);
  });
}

Tensor map_irreps_weight(Tensor x, Tensor grad, Tensor types, int64_t num_types, StringHandle handle) {
  const std::string spec = owned(handle);
  const LinearLayout layout(spec);
  const auto type = x.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "map_irreps: x is neither float32 nor float64");
  check_matrix("map_irreps", "x", x, -1, layout.columns_in, type);
  check_matrix("map_irreps", "grad", grad, x.size(0), layout.columns_out, type);
  const Types of_atoms(types, x.size(0), num_types);
  const Tensor left = torch::stable::contiguous(x), right = torch::stable::contiguous(grad);
  Tensor out = allocate(x, {num_types, layout.columns_weight});
  if (type == ScalarType::Float) weight_gradient<float>(layout, left, right, of_atoms, out);
  else weight_gradient<double>(layout, left, right, of_atoms, out);
  return out;
}

}  // namespace
