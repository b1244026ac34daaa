// The operator `nequip::segment_sum`: sums of rows of edges onto centers, by row pointer.
#pragma once
#include "tensors.h"

namespace {

template <class Scalar>
void sum_segments(const Scalar* values, const int64_t* row_ptr, int64_t rows, int64_t columns, Scalar* out) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(columns, 1));
  parallel(rows, grain, [&](int64_t row) {
    Scalar* total = out + row * columns;
    std::fill(total, total + columns, Scalar(0));
    for (int64_t edge = row_ptr[row]; edge < row_ptr[row + 1]; ++edge)
      for (int64_t column = 0; column < columns; ++column) total[column] += values[edge * columns + column];
  });
}

Tensor segment_sum(Tensor values, Tensor row_ptr) {
  const auto type = values.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "segment_sum: values are neither float32 nor float64");
  check_indices("segment_sum", "row_ptr", row_ptr, -1);
  STD_TORCH_CHECK(row_ptr.size(0) > 0 && values.dim() == 2, "segment_sum: values are ", shape(values),
                  " and row_ptr is ", shape(row_ptr), ", not [edges, columns] and [rows + 1]");
  const Tensor given = torch::stable::contiguous(values), pointers = torch::stable::contiguous(row_ptr);
  const auto* ends = data<const int64_t>(pointers);
  const int64_t rows = row_ptr.size(0) - 1, columns = values.size(1);
  STD_TORCH_CHECK(ends[0] == 0 && ends[rows] == values.size(0), "segment_sum: row_ptr runs from ", ends[0], " to ",
                  ends[rows], ", but values have ", values.size(0), " rows");
  for (int64_t row = 0; row < rows; ++row)
    STD_TORCH_CHECK(ends[row] <= ends[row + 1], "segment_sum: row_ptr descends after row ", row);
  Tensor out = torch::stable::new_empty(values, {rows, columns});
  if (type == ScalarType::Float)
    sum_segments(data<const float>(given), ends, rows, columns, data<float>(out));
  else
    sum_segments(data<const double>(given), ends, rows, columns, data<double>(out));
  return out;
}

}  // namespace
