// What every generated convolution shares: the loops over rows and edges.
//
// A generated file defines, before it includes this header,
//   Scalar                                  float or double
//   DIM_IN, DIM_SH, DIM_WEIGHT, DIM_OUT     columns of x, sh, weight, out
//   NUM_COUPLINGS                           entries M_ik of all paths, equal ones once
// and after it the functions declared below. No Python, no torch: LAMMPS and artefacts use it as it is.
#pragma once
#include "conv_abi.h"
#include "vectors.h"

namespace {

// The sum of N scalars, by halves.
template <int N>
inline Scalar sum(const Scalar* p) {
  if constexpr (N == 1) {
    return *p;
  } else {
    Scalar half[N / 2];
    store<N / 2>(half, load<N / 2>(p) + load<N / 2>(p + N / 2));
    return sum<N / 2>(half);
  }
}

// Up to LANES edges of one row at a time: what depends on the harmonics alone is computed for all of
// them at once, an edge to a lane.
struct Tile {
  alignas(64) Scalar sh[DIM_SH * LANES];
  alignas(64) Scalar couplings[NUM_COUPLINGS * LANES];  // M_ik = sum_j C_ijk Y_j
};

// Generated: the couplings of a tile, from its harmonics.
void tabulate(Tile& tile);

// Generated: one edge. `lane` is its place in the tiles; `sums` holds, for each harmonic, LANES partial
// sums over channels.
void forward_edge(const Tile& tile, int lane, const Scalar* x, const Scalar* weight, Scalar* out);
void backward_edge(const Tile& tile, int lane, const Scalar* x, const Scalar* weight, const Scalar* grad,
                   Scalar* dx, Scalar* dweight, Scalar* sums);

struct Direction {
  const Scalar *x, *weight;
};
void double_backward_edge(const Tile& tile, const Tile& along, int lane, const Scalar* x, const Scalar* weight,
                          const Scalar* grad, Direction direction, Scalar* dgrad, Scalar* dx, Scalar* dweight,
                          Scalar* sums);

inline void fill(Tile& tile, const Scalar* sh, int count) {
  for (int j = 0; j < DIM_SH; ++j)
    for (int lane = 0; lane < LANES; ++lane)
      tile.sh[j * LANES + lane] = lane < count ? sh[lane * DIM_SH + j] : Scalar(0);
  tabulate(tile);
}

// visit(first edge, how many) for the edges of a row, at most LANES at a time.
template <class Visit>
inline void for_tiles(int64_t begin, int64_t end, Visit visit) {
  for (int64_t edge = begin; edge < end; edge += LANES)
    visit(edge, static_cast<int>(end - edge < LANES ? end - edge : LANES));
}

}  // namespace

extern "C" {
const char* conv_instruction_set() { return INSTRUCTION_SET; }
extern const int32_t conv_sizes[4] = {DIM_IN, DIM_SH, DIM_WEIGHT, DIM_OUT};
}

#ifdef CONV_FIRST
namespace {

// Where the weights of an edge come from, and where their gradient goes: rows of arrays ...
struct GivenWeights {
  const Scalar* weight;
  Scalar* dweight;

  const Scalar* values(int64_t edge) { return weight + edge * DIM_WEIGHT; }
  const Scalar* values_and_slopes(int64_t edge) { return values(edge); }
  Scalar* gradient(int64_t edge) { return dweight + edge * DIM_WEIGHT; }
  void finish(int64_t) {}
};

// ... or a table of quintic Hermite splines, evaluated for one edge at a time and never stored.
struct TabulatedWeights {
  static constexpr int FULL_VECTORS = DIM_WEIGHT / LANES * LANES;
  const ConvTable& table;
  bool beyond = false;  // the last knot, where slopes are zero
  alignas(64) Scalar value[DIM_WEIGHT + 1], slope[DIM_WEIGHT + 1], dvalue[DIM_WEIGHT + 1];

  // The six rows that an edge needs, and its place between them. Below the first knot the first
  // polynomial goes on; beyond the last knot the last value holds.
  const Scalar* rows(int64_t edge, double& t) {
    const double place = table.position[edge], end = double(table.intervals);
    beyond = place > end;
    const double inside = place < end ? place : end;
    int64_t interval = inside > 0 ? static_cast<int64_t>(inside) : 0;
    if (interval > table.intervals - 1) interval = table.intervals - 1;
    t = inside - double(interval);
    return static_cast<const Scalar*>(table.knots) + interval * 3 * DIM_WEIGHT;
  }

  template <int N, bool WITH_SLOPES>
  void evaluate(const Scalar* rows, const Scalar (&h)[6], const Scalar (&d)[6], int column) {
    Vector<N> v = {}, s = {};
    for (int r = 0; r < 6; ++r) {
      const Vector<N> row = load<N>(rows + r * DIM_WEIGHT + column);
      v += h[r] * row;
      if constexpr (WITH_SLOPES) s += d[r] * row;
    }
    store<N>(value + column, v);
    if constexpr (WITH_SLOPES) store<N>(slope + column, s);
  }

  template <bool WITH_SLOPES>
  const Scalar* fill(int64_t edge) {
    double t;
    const Scalar* first = rows(edge, t);
    const double t2 = t * t, t3 = t2 * t, t4 = t3 * t, t5 = t4 * t;
    const Scalar h[6] = {
        Scalar(1 - 10 * t3 + 15 * t4 - 6 * t5), Scalar(t - 6 * t3 + 8 * t4 - 3 * t5),
        Scalar(0.5 * t2 - 1.5 * t3 + 1.5 * t4 - 0.5 * t5), Scalar(10 * t3 - 15 * t4 + 6 * t5),
        Scalar(-4 * t3 + 7 * t4 - 3 * t5), Scalar(0.5 * t3 - t4 + 0.5 * t5)};
    const Scalar d[6] = {
        Scalar(-30 * t2 + 60 * t3 - 30 * t4), Scalar(1 - 18 * t2 + 32 * t3 - 15 * t4),
        Scalar(t - 4.5 * t2 + 6 * t3 - 2.5 * t4), Scalar(30 * t2 - 60 * t3 + 30 * t4),
        Scalar(-12 * t2 + 28 * t3 - 15 * t4), Scalar(1.5 * t2 - 4 * t3 + 2.5 * t4)};
    for (int column = 0; column < FULL_VECTORS; column += LANES) evaluate<LANES, WITH_SLOPES>(first, h, d, column);
    for (int column = FULL_VECTORS; column < DIM_WEIGHT; ++column) evaluate<1, WITH_SLOPES>(first, h, d, column);
    return value;
  }

  const Scalar* values(int64_t edge) { return fill<false>(edge); }
  const Scalar* values_and_slopes(int64_t edge) { return fill<true>(edge); }
  Scalar* gradient(int64_t) { return dvalue; }
  void finish(int64_t edge) {
    alignas(64) Scalar total[LANES] = {};
    for (int column = 0; column < FULL_VECTORS; column += LANES)
      add<LANES>(total, load<LANES>(dvalue + column) * load<LANES>(slope + column));
    for (int column = FULL_VECTORS; column < DIM_WEIGHT; ++column) total[0] += dvalue[column] * slope[column];
    table.dposition[edge] = beyond ? 0.0 : double(sum<LANES>(total));
  }
};

template <class Weights>
void forward_rows(const ConvRows& rows, const ConvInputs& in, Weights& weights, Scalar* result) {
  const auto *x = static_cast<const Scalar*>(in.x), *sh = static_cast<const Scalar*>(in.sh);
  Tile tile;
  for (int64_t row = rows.first; row < rows.last; ++row) {
    Scalar* out = result + row * DIM_OUT;
    std::memset(out, 0, DIM_OUT * sizeof(Scalar));
    for_tiles(rows.row_ptr[row], rows.row_ptr[row + 1], [&](int64_t edge, int count) {
      fill(tile, sh + edge * DIM_SH, count);
      for (int lane = 0; lane < count; ++lane, ++edge)
        forward_edge(tile, lane, x + rows.neighbor[edge] * DIM_IN, weights.values(edge), out);
    });
  }
}

template <class Weights>
void backward_rows(const ConvRows& rows, const ConvInputs& in, Weights& weights, const ConvOutputs& out) {
  const auto *x = static_cast<const Scalar*>(in.x), *sh = static_cast<const Scalar*>(in.sh);
  auto *dx = static_cast<Scalar*>(out.x), *dsh = static_cast<Scalar*>(out.sh);
  const int64_t first_edge = rows.row_ptr[rows.first];
  Tile tile;
  for (int64_t row = rows.first; row < rows.last; ++row) {
    const Scalar* grad = static_cast<const Scalar*>(in.grad) + row * DIM_OUT;
    for_tiles(rows.row_ptr[row], rows.row_ptr[row + 1], [&](int64_t edge, int count) {
      fill(tile, sh + edge * DIM_SH, count);
      for (int lane = 0; lane < count; ++lane, ++edge) {
        alignas(64) Scalar sums[DIM_SH * LANES] = {};
        const Scalar* weight = weights.values_and_slopes(edge);
        backward_edge(tile, lane, x + rows.neighbor[edge] * DIM_IN, weight, grad,
                      dx + rows.slot[edge - first_edge] * int64_t(DIM_IN), weights.gradient(edge), sums);
        weights.finish(edge);
        for (int j = 0; j < DIM_SH; ++j) dsh[edge * DIM_SH + j] = sum<LANES>(sums + j * LANES);
      }
    });
  }
}

}  // namespace

extern "C" {
void conv_forward(const ConvRows& rows, const ConvInputs& in, void* out) {
  GivenWeights weights{static_cast<const Scalar*>(in.weight), nullptr};
  forward_rows(rows, in, weights, static_cast<Scalar*>(out));
}
void conv_backward(const ConvRows& rows, const ConvInputs& in, const ConvOutputs& out) {
  GivenWeights weights{static_cast<const Scalar*>(in.weight), static_cast<Scalar*>(out.weight)};
  backward_rows(rows, in, weights, out);
}
void conv_table_forward(const ConvRows& rows, const ConvInputs& in, const ConvTable& table, void* out) {
  TabulatedWeights weights{table, false, {}, {}, {}};
  forward_rows(rows, in, weights, static_cast<Scalar*>(out));
}
void conv_table_backward(const ConvRows& rows, const ConvInputs& in, const ConvTable& table, const ConvOutputs& out) {
  TabulatedWeights weights{table, false, {}, {}, {}};
  backward_rows(rows, in, weights, out);
}
}
#endif

#ifdef CONV_SECOND
extern "C" void conv_double_backward(const ConvRows& rows, const ConvInputs& in, const ConvInputs& direction,
                                     const ConvOutputs& out) {
  const auto *x = static_cast<const Scalar*>(in.x), *sh = static_cast<const Scalar*>(in.sh),
             *weight = static_cast<const Scalar*>(in.weight), *a = static_cast<const Scalar*>(direction.x),
             *b = static_cast<const Scalar*>(direction.sh), *c = static_cast<const Scalar*>(direction.weight);
  auto *dx = static_cast<Scalar*>(out.x), *dsh = static_cast<Scalar*>(out.sh),
       *dweight = static_cast<Scalar*>(out.weight);
  const int64_t first_edge = rows.row_ptr[rows.first];
  Tile tile, along;
  for (int64_t row = rows.first; row < rows.last; ++row) {
    const Scalar* grad = static_cast<const Scalar*>(in.grad) + row * DIM_OUT;
    Scalar* dgrad = static_cast<Scalar*>(out.grad) + row * DIM_OUT;
    std::memset(dgrad, 0, DIM_OUT * sizeof(Scalar));
    for_tiles(rows.row_ptr[row], rows.row_ptr[row + 1], [&](int64_t edge, int count) {
      fill(tile, sh + edge * DIM_SH, count);
      fill(along, b + edge * DIM_SH, count);
      for (int lane = 0; lane < count; ++lane, ++edge) {
        alignas(64) Scalar sums[DIM_SH * LANES] = {};
        const int64_t source = rows.neighbor[edge] * DIM_IN;
        const Direction turned{a + source, c + edge * DIM_WEIGHT};
        double_backward_edge(tile, along, lane, x + source, weight + edge * DIM_WEIGHT, grad, turned, dgrad,
                             dx + rows.slot[edge - first_edge] * int64_t(DIM_IN), dweight + edge * DIM_WEIGHT,
                             sums);
        for (int j = 0; j < DIM_SH; ++j) dsh[edge * DIM_SH + j] = sum<LANES>(sums + j * LANES);
      }
    });
  }
}
#endif
