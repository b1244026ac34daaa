// What every generated convolution shares: vectors of channels, and the loops over rows and edges.
//
// A generated file defines, before it includes this header,
//   Scalar                                  float or double
//   DIM_IN, DIM_SH, DIM_WEIGHT, DIM_OUT     columns of x, sh, weight, out
//   NUM_COUPLINGS                           entries M_ik of all paths, equal ones once
// and after it the functions declared below. No Python, no torch: LAMMPS and artefacts use it as it is.
#pragma once
#include <cstdint>
#include <cstring>

#include "conv_abi.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define INSTRUCTION_SET "avx512"
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define INSTRUCTION_SET "avx2"
#else
#define VECTOR_BYTES 16
#define INSTRUCTION_SET "generic"
#endif

namespace {

constexpr int LANES = VECTOR_BYTES / sizeof(Scalar);

// A vector of N scalars; arithmetic with a scalar broadcasts it.
template <int N>
struct VectorOf {
  typedef Scalar type __attribute__((vector_size(N * sizeof(Scalar)), aligned(sizeof(Scalar)), may_alias));
};
template <>
struct VectorOf<1> {
  typedef Scalar type;
};
template <int N>
using Vector = typename VectorOf<N>::type;

template <int N>
inline Vector<N> load(const Scalar* p) {
  Vector<N> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <int N>
inline void store(Scalar* p, Vector<N> v) {
  std::memcpy(p, &v, sizeof v);
}
template <int N>
inline void add(Scalar* p, Vector<N> v) {
  store<N>(p, load<N>(p) + v);
}

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
extern "C" void conv_forward(const ConvRows& rows, const ConvInputs& in, void* result) {
  const auto *x = static_cast<const Scalar*>(in.x), *sh = static_cast<const Scalar*>(in.sh),
             *weight = static_cast<const Scalar*>(in.weight);
  Tile tile;
  for (int64_t row = rows.first; row < rows.last; ++row) {
    Scalar* out = static_cast<Scalar*>(result) + row * DIM_OUT;
    std::memset(out, 0, DIM_OUT * sizeof(Scalar));
    for_tiles(rows.row_ptr[row], rows.row_ptr[row + 1], [&](int64_t edge, int count) {
      fill(tile, sh + edge * DIM_SH, count);
      for (int lane = 0; lane < count; ++lane, ++edge)
        forward_edge(tile, lane, x + rows.neighbor[edge] * DIM_IN, weight + edge * DIM_WEIGHT, out);
    });
  }
}

extern "C" void conv_backward(const ConvRows& rows, const ConvInputs& in, const ConvOutputs& out) {
  const auto *x = static_cast<const Scalar*>(in.x), *sh = static_cast<const Scalar*>(in.sh),
             *weight = static_cast<const Scalar*>(in.weight);
  auto *dx = static_cast<Scalar*>(out.x), *dsh = static_cast<Scalar*>(out.sh),
       *dweight = static_cast<Scalar*>(out.weight);
  const int64_t first_edge = rows.row_ptr[rows.first];
  Tile tile;
  for (int64_t row = rows.first; row < rows.last; ++row) {
    const Scalar* grad = static_cast<const Scalar*>(in.grad) + row * DIM_OUT;
    for_tiles(rows.row_ptr[row], rows.row_ptr[row + 1], [&](int64_t edge, int count) {
      fill(tile, sh + edge * DIM_SH, count);
      for (int lane = 0; lane < count; ++lane, ++edge) {
        alignas(64) Scalar sums[DIM_SH * LANES] = {};
        backward_edge(tile, lane, x + rows.neighbor[edge] * DIM_IN, weight + edge * DIM_WEIGHT, grad,
                      dx + rows.slot[edge - first_edge] * int64_t(DIM_IN), dweight + edge * DIM_WEIGHT, sums);
        for (int j = 0; j < DIM_SH; ++j) dsh[edge * DIM_SH + j] = sum<LANES>(sums + j * LANES);
      }
    });
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
