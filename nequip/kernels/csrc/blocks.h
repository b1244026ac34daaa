// Rows of edges, and how they are shared out: by blocks of whole rows.
#pragma once
#include <algorithm>
#include <vector>

#include "tensors.h"

namespace {

void check_row_ptr(const char* op, const int64_t* row_ptr, int64_t rows, int64_t edges) {
  STD_TORCH_CHECK(row_ptr[0] == 0 && row_ptr[rows] == edges, op, ": row_ptr runs from ", row_ptr[0], " to ",
                  row_ptr[rows], ", but there are ", edges, " edges");
  for (int64_t row = 0; row < rows; ++row)
    STD_TORCH_CHECK(row_ptr[row] <= row_ptr[row + 1], op, ": row_ptr descends after row ", row);
}

// Boundaries of blocks of whole rows with about equal work. They depend on the graph alone and not on
// the number of threads, and so do the sums: results are equal, bit for bit, on any number of threads.
std::vector<int64_t> blocks_of(const int64_t* row_ptr, int64_t rows) {
  const auto work = [&](int64_t row) { return row_ptr[row] + row / 4; };
  const int64_t total = work(rows);
  const int64_t size = std::clamp<int64_t>(total / 16, 64, 8192);
  std::vector<int64_t> boundaries{0};
  while (boundaries.back() < rows) {
    const int64_t target = work(boundaries.back()) + size;
    int64_t low = boundaries.back() + 1, high = rows;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (work(middle) >= target) high = middle;
      else low = middle + 1;
    }
    boundaries.push_back(low);
  }
  return boundaries;
}

}  // namespace
