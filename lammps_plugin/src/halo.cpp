#include "halo.h"

#include <algorithm>
#include <cstring>

#include "comm.h"
#include "pair.h"

namespace nequip_lammps {

namespace {

template <class Scalar>
void add_rows(std::byte* buffer, size_t stride, int n, const int* list, const double* message) {
  const auto* values = reinterpret_cast<const std::byte*>(message);
  const size_t count = stride / sizeof(Scalar);
  for (int i = 0; i < n; ++i, values += stride) {
    auto* row = reinterpret_cast<Scalar*>(buffer + static_cast<size_t>(list[i]) * stride);
    for (size_t k = 0; k < count; ++k) {
      Scalar value;  // the message is an array of doubles, whatever it carries
      std::memcpy(&value, values + k * sizeof(Scalar), sizeof(Scalar));
      row[k] += value;
    }
  }
}

}  // namespace

void Halo::set_rows(const std::vector<int>& index_, size_t num_centers, size_t num_lammps_atoms,
                    LAMMPS_NS::Comm* comm_) {
  index = index_;
  comm = comm_;
  centers = num_centers;
  atoms = num_lammps_atoms;
}

template <class Scalar>
void Halo::spread(const Scalar* rows, size_t count, size_t width) {
  is_float = sizeof(Scalar) == sizeof(float);
  stride = doubles(width, sizeof(Scalar)) * sizeof(double);
  buffer.assign(atoms * stride, std::byte{0});
  for (size_t row = 0; row < count; ++row)
    if (index[row] >= 0) std::memcpy(buffer.data() + index[row] * stride, rows + row * width, width * sizeof(Scalar));
}

template <class Scalar>
void Halo::forward(const Scalar* rows, Scalar* all, size_t width) {
  std::copy_n(rows, centers * width, all);
  // On one process every ghost is an image of an atom of its own, which the graph uses in its place. On several, all
  // must call, ghosts or not.
  if (comm->nprocs == 1 && num_rows() == centers) return;
  spread(rows, centers, width);
  comm->forward_comm(pair, static_cast<int>(stride / sizeof(double)));
  for (size_t row = centers; row < num_rows(); ++row)
    std::memcpy(all + row * width, buffer.data() + index[row] * stride, width * sizeof(Scalar));
}

template <class Scalar>
void Halo::reverse(const Scalar* all, Scalar* rows, size_t width) {
  std::copy_n(all, centers * width, rows);
  if (comm->nprocs == 1 && num_rows() == centers) return;
  spread(all, num_rows(), width);
  comm->reverse_comm(pair, static_cast<int>(stride / sizeof(double)));
  for (size_t row = 0; row < centers; ++row)
    if (index[row] >= 0) std::memcpy(rows + row * width, buffer.data() + index[row] * stride, width * sizeof(Scalar));
}

int Halo::pack(int n, const int* list, double* message) const {
  auto* out = reinterpret_cast<std::byte*>(message);
  for (int i = 0; i < n; ++i) std::memcpy(out + i * stride, buffer.data() + list[i] * stride, stride);
  return static_cast<int>(n * stride / sizeof(double));
}

int Halo::pack_range(int n, int first, double* message) const {
  std::memcpy(message, buffer.data() + first * stride, n * stride);
  return static_cast<int>(n * stride / sizeof(double));
}

void Halo::unpack_range(int n, int first, const double* message) {
  std::memcpy(buffer.data() + first * stride, message, n * stride);
}

void Halo::add(int n, const int* list, const double* message) {
  if (is_float) add_rows<float>(buffer.data(), stride, n, list, message);
  else add_rows<double>(buffer.data(), stride, n, list, message);
}

template void Halo::forward(const float*, float*, size_t);
template void Halo::forward(const double*, double*, size_t);
template void Halo::reverse(const float*, float*, size_t);
template void Halo::reverse(const double*, double*, size_t);

}  // namespace nequip_lammps
