// What every operator needs of torch: checks that name the argument, data, and a loop over threads.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace {

// The text of an argument, which is ours to delete. Operators take handles, because torch's own conversion to
// std::string keeps a copy at every call for ever (torch 2.10 to 2.13, pytorch issue 191340).
std::string owned(StringHandle handle) {
  size_t length;
  const char* text;
  STABLE_TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
  STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &text));
  const std::string copy(text, length);
  STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
  return copy;
}

std::string shape(const Tensor& t) {
  std::string text = "[";
  for (int64_t i = 0; i < t.dim(); ++i) text += (i ? ", " : "") + std::to_string(t.size(i));
  return text + "]";
}

void check_matrix(const char* op, const char* name, const Tensor& t, int64_t rows, int64_t columns, ScalarType type) {
  STD_TORCH_CHECK(t.device().is_cpu(), op, ": ", name, " is on another device than the CPU");
  STD_TORCH_CHECK(t.scalar_type() == type, op, ": ", name, " has another dtype than x");
  STD_TORCH_CHECK(t.dim() == 2 && (rows < 0 || t.size(0) == rows) && t.size(1) == columns, op, ": ", name, " is ",
                  shape(t), ", not [", rows < 0 ? std::string("rows") : std::to_string(rows), ", ", columns, "]");
}

void check_indices(const char* op, const char* name, const Tensor& t, int64_t size) {
  STD_TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == ScalarType::Long, op, ": ", name,
                  " must be int64 on the CPU");
  STD_TORCH_CHECK(t.dim() == 1 && (size < 0 || t.size(0) == size), op, ": ", name, " is ", shape(t), ", not [",
                  size < 0 ? std::string("rows + 1") : std::to_string(size), "]");
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// A new array, in huge pages where it is large: fresh memory comes one page fault at a time, and for the
// gradient of the weights of edges those faults took as long as the computation.
inline Tensor allocate(const Tensor& like, std::initializer_list<int64_t> sizes) {
  Tensor t = torch::stable::new_empty(like, sizes);
#if defined(__linux__)
  constexpr uintptr_t HUGE_PAGE = uintptr_t(1) << 21;
  const auto begin = (reinterpret_cast<uintptr_t>(t.data_ptr()) + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
  const auto end = reinterpret_cast<uintptr_t>(t.data_ptr()) + t.numel() * t.element_size();
  if (end > begin + HUGE_PAGE) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
  return t;
}

Tensor like(const Tensor& t) {
  return t.dim() == 1 ? allocate(t, {t.size(0)}) : allocate(t, {t.size(0), t.size(1)});
}
Tensor zeros_like(const Tensor& t) { return torch::stable::new_zeros(t, t.sizes()); }

// body(i) for every i below count, on torch's own threads.
void parallel(int64_t count, int64_t grain, const std::function<void(int64_t)>& body) {
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace
