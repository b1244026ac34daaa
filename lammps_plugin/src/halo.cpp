#include "halo.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>

namespace nequip_lammps {

namespace {

constexpr int TAG = 7;

template <class Scalar>
MPI_Datatype mpi_type() {
  return std::is_same_v<Scalar, float> ? MPI_FLOAT : MPI_DOUBLE;
}

}  // namespace

void Halo::Side::set_counts(const std::vector<int>& counts_) {
  counts = counts_;
  starts.assign(counts.size(), 0);
  for (size_t rank = 1; rank < counts.size(); ++rank) starts[rank] = starts[rank - 1] + counts[rank - 1];
  atoms.resize(starts.back() + counts.back());
}

template <class Scalar>
Scalar* Halo::Side::room(size_t width) {
  buffer.resize(atoms.size() * width * sizeof(Scalar));
  return reinterpret_cast<Scalar*>(buffer.data());
}

void Halo::plan(const std::vector<int>& ghosts, const std::vector<Home>& homes, MPI_Comm world_) {
  world = world_;
  int processes = 1;
  MPI_Comm_size(world, &processes);
  std::vector<int> counts(processes, 0);
  for (int ghost : ghosts) ++counts[homes[ghost].rank];
  wanted.set_counts(counts);
  std::vector<int> asked(ghosts.size()), place = wanted.starts;
  for (int ghost : ghosts) {
    const int at = place[homes[ghost].rank]++;
    wanted.atoms[at] = ghost;
    asked[at] = homes[ghost].number;
  }
  MPI_Alltoall(wanted.counts.data(), 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  lent.set_counts(counts);
  MPI_Alltoallv(asked.data(), wanted.counts.data(), wanted.starts.data(), MPI_INT, lent.atoms.data(),
                lent.counts.data(), lent.starts.data(), MPI_INT, world);
}

void Halo::set_rows(const std::vector<int>& index, size_t num_centers, size_t num_lammps_atoms) {
  centers = num_centers;
  total = index.size();
  row_of.assign(num_lammps_atoms, -1);
  for (size_t row = 0; row < total; ++row)
    if (index[row] >= 0) row_of[index[row]] = static_cast<int>(row);
  size_t found = centers;
  for (Side* side : {&wanted, &lent}) {
    side->rows.resize(side->atoms.size());
    for (size_t i = 0; i < side->atoms.size(); ++i) side->rows[i] = row_of[side->atoms[i]];
  }
  for (int row : wanted.rows) found += row >= 0;
  if (found != total) throw std::runtime_error("a neighbor is neither a center here nor an atom of another process");
}

// Rows in the order of messages; zeros for atoms that are not in the graph.
template <class Scalar>
void Halo::pack(Side& side, const Scalar* rows, size_t width) {
  Scalar* out = side.room<Scalar>(width);
  for (int row : side.rows) {
    if (row < 0) std::fill_n(out, width, Scalar(0));
    else std::copy_n(rows + row * width, width, out);
    out += width;
  }
}

template <class Scalar>
void Halo::send(Side& from, Side& to, size_t width) {
  const int columns = static_cast<int>(width);
  const Scalar* out = from.room<Scalar>(width);
  Scalar* in = to.room<Scalar>(width);
  std::vector<MPI_Request> requests;
  for (size_t rank = 0; rank < to.counts.size(); ++rank)
    if (to.counts[rank] > 0)
      MPI_Irecv(in + to.starts[rank] * width, to.counts[rank] * columns, mpi_type<Scalar>(), static_cast<int>(rank),
                TAG, world, &requests.emplace_back());
  for (size_t rank = 0; rank < from.counts.size(); ++rank)
    if (from.counts[rank] > 0)
      MPI_Isend(out + from.starts[rank] * width, from.counts[rank] * columns, mpi_type<Scalar>(),
                static_cast<int>(rank), TAG, world, &requests.emplace_back());
  MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
}

template <class Scalar>
void Halo::forward(const Scalar* rows, Scalar* all, size_t width) {
  std::copy_n(rows, centers * width, all);
  pack(lent, rows, width);
  send<Scalar>(lent, wanted, width);
  const Scalar* in = wanted.room<Scalar>(width);
  for (int row : wanted.rows) {
    if (row >= 0) std::copy_n(in, width, all + row * width);
    in += width;
  }
}

template <class Scalar>
void Halo::reverse(const Scalar* all, Scalar* rows, size_t width) {
  std::copy_n(all, centers * width, rows);
  pack(wanted, all, width);
  send<Scalar>(wanted, lent, width);
  const Scalar* in = lent.room<Scalar>(width);
  for (int row : lent.rows) {
    if (row >= 0)
      for (size_t k = 0; k < width; ++k) rows[row * width + k] += in[k];
    in += width;
  }
}

template void Halo::forward(const float*, float*, size_t);
template void Halo::forward(const double*, double*, size_t);
template void Halo::reverse(const float*, float*, size_t);
template void Halo::reverse(const double*, double*, size_t);

}  // namespace nequip_lammps
