// Vectors of channels. The generated file that includes this defines Scalar, float or double, before.
#pragma once
#include <cstdint>
#include <cstring>

#include "vector_bytes.h"

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

}  // namespace
