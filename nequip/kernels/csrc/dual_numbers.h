// Vectors of channels, and dual numbers of them: a + b e with e e = 0, where a and b may be dual numbers again.
//
// With k levels, a function evaluated at z + v1 e1 + ... + vk ek has as the coefficient of e1 ... ek, here
// called its last, the derivative along v1, ..., vk.
#pragma once
#include "vectors.h"

namespace {

// As wide as a register, at an address that is a multiple of its size.
typedef Scalar Plain __attribute__((vector_size(VECTOR_BYTES)));

template <class T>
struct Dual {
  T low, high;
};
template <int LEVELS>
struct NumberOf {
  typedef Dual<typename NumberOf<LEVELS - 1>::type> type;
};
template <>
struct NumberOf<0> {
  typedef Plain type;
};
template <int LEVELS>
using Number = typename NumberOf<LEVELS>::type;

template <class T>
constexpr bool is_dual = false;
template <class T>
constexpr bool is_dual<Dual<T>> = true;

// t += b
template <class T, class B>
inline void add_to(T& t, const B& b) {
  if constexpr (!is_dual<T>) {
    t += b;
  } else if constexpr (!is_dual<B>) {
    add_to(t.low, b);
  } else {
    add_to(t.low, b.low);
    add_to(t.high, b.high);
  }
}

// t += a b
template <class T, class B>
inline void add_product(T& t, const T& a, const B& b) {
  if constexpr (!is_dual<T>) {
    t += a * b;
  } else if constexpr (!is_dual<B>) {
    add_product(t.low, a.low, b);
    add_product(t.high, a.high, b);
  } else {
    add_product(t.low, a.low, b.low);
    add_product(t.high, a.low, b.high);
    add_product(t.high, a.high, b.low);
  }
}

// The last coefficient.
template <class T>
inline Plain last(const T& a) {
  if constexpr (!is_dual<T>) return a;
  else return last(a.high);
}

// t += the last coefficient of a b
template <class A, class B>
inline void add_last(Plain& t, const A& a, const B& b) {
  if constexpr (!is_dual<A>) {
    t += a * b;
  } else if constexpr (!is_dual<B>) {
    add_last(t, a.high, b);
  } else {
    add_last(t, a.low, b.high);
    add_last(t, a.high, b.low);
  }
}

// read(n) is the n-th of the point and the directions: their sum, each direction with its e.
template <int LEVELS, class Read>
inline Number<LEVELS> along(Read read) {
  if constexpr (LEVELS == 0) {
    return read(0);
  } else {
    Number<LEVELS> number{along<LEVELS - 1>(read), {}};
    add_to(number.high, read(LEVELS));
    return number;
  }
}

}  // namespace
